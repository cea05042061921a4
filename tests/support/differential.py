# SPDX-License-Identifier: Apache-2.0
"""Rounds of the differential test: one seed gives the questions of a model, vLLM without a cache
answers them one by one, and engines with a cache get streams of them.
"""

from __future__ import annotations

import dataclasses
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from request_streams import Question, follow_ups, make_questions, make_stream
from served_llm import Answer, ServedLLM
from stream_engines import ADAPTERS, SETUPS, Setup, make_awkward, reference_settings, start
from stream_runner import StreamRunner

QUESTIONS, FOLLOW_UPS = 32, 8
REQUESTS = 40  # of a stream
STREAMS = 3  # of an engine
ENGINES = 2  # one after the other on a segment and a folder of disk chunks


class Differential:
    """Runs engines one after the other; `counts` says how hard it was for them."""

    def __init__(
        self, open_llm: Callable[..., ServedLLM], adapters: dict[str, Any], folder: Path
    ) -> None:
        self._open_llm = open_llm
        self._adapters = adapters
        self._folder = folder
        self._references: dict[tuple[str, str], dict[Question, list[Answer]]] = {}
        self.counts: Counter[str] = Counter()

    def references(self, model: str, seed: str) -> dict[Question, list[Answer]]:
        """Return the answers of vLLM without a cache to a round's questions."""
        if (model, seed) not in self._references:
            adapters = ADAPTERS if model == "llama" else ("",)
            questions = make_questions(f"{seed} {model}", QUESTIONS, adapters=adapters)
            runner = StreamRunner(start(self._open_llm, reference_settings(model)), self._adapters)
            answers = runner.answer(questions)
            first = [(question, answers[question][0].tokens) for question in questions]
            answers |= runner.answer(follow_ups(f"{seed} {model}", FOLLOW_UPS, first))
            self._references = {(model, seed): answers}  # of one round at a time
        return self._references[model, seed]

    def findings(
        self, name: str, seed: str, *, streams: int = STREAMS, engines: int = ENGINES
    ) -> list[str]:
        """Run the engines of a setup in a round; return what is wrong, of the first stream that
        finds something.
        """
        setup = SETUPS[name]
        references = self.references(setup.model, seed)
        questions = [
            question
            for question in references
            if question.kind in {"greedy", *setup.kinds}
            and (setup.adapters or not question.adapter)
        ]
        source = random.Random(f"{seed} {name}")
        settings = setup.settings(source)
        segment = f"test-{uuid.uuid4().hex[:12]}"
        config = setup.config(source, segment, self._folder / segment)
        try:
            for engine in range(engines):
                if setup.disk and engine:
                    config["segment"] = "private"  # nothing is left but what lies on disk
                started = self._start(setup, settings, config, source)
                runner = StreamRunner(started, self._adapters)
                for number in range(streams):
                    stream = make_stream(
                        f"{seed} {name} {engine}/{number}", questions, REQUESTS, setup.events
                    )
                    found = runner.findings(stream, references)
                    if found:
                        return [f"vLLM {settings}, cache {config}", *found]
                self._count(runner, started)
                started.close()
        finally:
            self._forget(segment)
        return []

    def _start(
        self, setup: Setup, settings: dict[str, Any], config: dict[str, Any], source: random.Random
    ) -> ServedLLM:
        cached = {"enable_lmcache": True, "lmcache_config": config}
        llm = start(self._open_llm, {**settings, **cached})
        make_awkward(llm, setup, source)
        return llm

    def _count(self, runner: StreamRunner, llm: ServedLLM) -> None:
        self.counts.update(dataclasses.asdict(runner.counts))
        engine = llm.worker._attachment.engine
        total = engine.status()["total"]
        for name in ("evicted_chunks", "disk_read_chunks"):
            self.counts[name] += int(total.get(name, 0))
        self.counts["loaded_tokens"] += llm.loaded_tokens()
        self.counts["engines"] += 1

    @staticmethod
    def _forget(segment: str) -> None:
        from lmcache import _native

        Path(_native.segment_path(segment)).unlink(missing_ok=True)


def run_rounds(differential: Differential, seed: str, minutes: float, only: str = "") -> list[str]:
    """Run rounds of all setups, or of one, until the time is up, the first one to its end in any
    case; return what the first setup that finds something finds.

    No time at all: one round, with one stream an engine.
    """
    deadline = time.monotonic() + minutes * 60
    streams = STREAMS if minutes else 1
    number = 0
    while True:
        round_seed = f"{seed}.{number}" if number or not only else seed
        for name in [only] if only else sorted(SETUPS, key=lambda name: SETUPS[name].model):
            found = differential.findings(name, round_seed, streams=streams)
            if found:
                same = f'SEED={round_seed} MINUTES={minutes:g} SETUP="{name}"'
                return [f"{name}: run again with {same} make test-differential", *found[:12]]
            if number and time.monotonic() > deadline:
                return []
        number += 1
        if time.monotonic() > deadline:
            return []
