# SPDX-License-Identifier: Apache-2.0
"""What the cache costs and saves in a real vLLM, as ratios in one run.

Two vLLM processes that are equal differ by up to 15 % in speed, by the luck of where their weights
lie in memory. So the times to compare are taken in one process, with LMCache switched off and on in
turn; switched off, vLLM has no connector. A vLLM that never heard of LMCache says before what the
answers must be, and a new process on the same segment is asked at the end. Every ratio is the
median over the rounds of the ratio within a round.

    native cold   off; vLLM computes the whole prompt
    native hit    off; vLLM's own prefix cache has it
    cold          on; nothing is cached
    warm          on; vLLM's own prefix cache was emptied, KV comes from DRAM
    restart       a new process asks what the other one stored
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmcache import _native
from lmcache.bench.vllm_process import Answer, Arm, VllmProcess
from lmcache.errors import LMCacheError, UnavailableError

WARM_UP_TOKENS = 64
ARMS: tuple[Arm, ...] = ("none", "lmcache")


@dataclass(frozen=True)
class VllmBench:
    """What to measure. The model's context must hold `prompt_tokens` and `decode_tokens`."""

    model: str
    dtype: str
    rounds: int
    prompt_tokens: int
    decode_tokens: int
    segment: str
    segment_gb: float
    vocabulary: int
    log_folder: Path


@dataclass
class Samples:
    """Answers by kind, one per round."""

    reference: list[Answer] = field(default_factory=list)
    native_cold: list[Answer] = field(default_factory=list)
    native_hit: list[Answer] = field(default_factory=list)
    cold: list[Answer] = field(default_factory=list)
    warm: list[Answer] = field(default_factory=list)
    restart: list[Answer] = field(default_factory=list)


def measure(bench: VllmBench, say: Callable[[str], None]) -> dict[str, Any]:
    """Run everything and return the figures of `lmcache bench vllm --json`. Takes minutes."""
    draw = random.Random(0)
    prompts = [
        [draw.randrange(10, bench.vocabulary) for _ in range(bench.prompt_tokens)]
        for _ in range(bench.rounds)
    ]
    samples = Samples()
    with ExitStack() as stack:
        stack.callback(remove_segment, bench.segment)
        say("starting vLLM without LMCache, for the answers")
        with _running(bench, None, "native") as engine:
            _answer_all(engine, prompts, bench.decode_tokens, samples.reference)
        say("starting vLLM with LMCache")
        with _running(bench, bench.segment, "lmcache") as engine:
            for arm in ARMS:
                engine.switch(arm)
                _warm_up(engine, bench)
            engine.rest()
            for number, prompt in enumerate(prompts):
                _round(engine, prompt, bench.decode_tokens, number % 2 == 0, samples)
                say(f"round {number + 1} of {bench.rounds}: {_line(samples)}")
        say("starting vLLM anew on the same segment")
        with _running(bench, bench.segment, "restart") as engine:
            _warm_up(engine, bench)
            _answer_all(engine, prompts, bench.decode_tokens, samples.restart)
    check_reuse(samples)
    return figures(samples)


def _answer_all(
    engine: VllmProcess, prompts: list[list[int]], tokens: int, keep: list[Answer]
) -> None:
    for prompt in prompts:
        engine.reset()
        keep.append(engine.run(prompt, tokens))


def remove_segment(segment: str) -> None:
    """Remove the segment of a benchmark, if there is one."""
    with suppress(LMCacheError):  # no engine may have got as far as to make it
        _native.remove_segment(_native.segment_path(segment))


@contextmanager
def _running(bench: VllmBench, segment: str | None, name: str) -> Iterator[VllmProcess]:
    config = segment and {"segment": segment, "max_local_cpu_size": bench.segment_gb}
    options = {
        "model": bench.model,
        "dtype": bench.dtype,
        "max_model_len": bench.prompt_tokens + bench.decode_tokens + 64,
        "lmcache_config": config,
    }
    with VllmProcess(options, bench.log_folder / f"{name}.log") as process:
        process.wait_ready()
        yield process


def _warm_up(engine: VllmProcess, bench: VllmBench) -> None:
    """Run what is slow only once: a prompt of full length, its hit, and some decoding."""
    prompt = [10 + position % 7 for position in range(bench.prompt_tokens)]
    for _ in range(2):
        engine.run(prompt, 8)
        engine.reset()
    engine.run(prompt[:WARM_UP_TOKENS], 8)
    engine.reset()


def _round(
    engine: VllmProcess, prompt: list[int], tokens: int, native_first: bool, samples: Samples
) -> None:
    """Take one sample of each kind."""

    def without() -> None:
        engine.switch("none")
        samples.native_cold.append(engine.run(prompt, tokens))
        samples.native_hit.append(engine.run(prompt, tokens))
        engine.reset()

    def with_lmcache() -> None:
        engine.switch("lmcache")
        samples.cold.append(engine.run(prompt, tokens))
        engine.reset()
        samples.warm.append(engine.run(prompt, tokens))
        engine.reset()

    for take in (without, with_lmcache) if native_first else (with_lmcache, without):
        take()


def check_reuse(samples: Samples) -> None:
    """Raise UnavailableError when a "hit" was none, or a "cold" one: times would say nothing."""
    for answer in samples.native_cold + samples.cold:
        if answer.cached_tokens * 2 > answer.prompt_tokens:
            raise UnavailableError(
                f"{answer.cached_tokens} of {answer.prompt_tokens} tokens were cached where "
                "nothing should have been"
            )
    kinds = {
        "vLLM's own prefix cache": samples.native_hit,
        "DRAM": samples.warm,
        "DRAM in a new process": samples.restart,
    }
    for name, answers in kinds.items():
        for answer in answers:
            if answer.cached_tokens * 2 < answer.prompt_tokens:
                raise UnavailableError(
                    f"only {answer.cached_tokens} of {answer.prompt_tokens} tokens came out of "
                    f"{name}: are the prompts shorter than vLLM's block size?"
                )


def figures(samples: Samples) -> dict[str, Any]:
    """Return the keys of `lmcache bench vllm --json`: seconds, and ratios."""

    def ttft(answers: list[Answer]) -> float:
        return round(statistics.median(answer.ttft_s for answer in answers), 6)

    def ratio(ours: list[float], native: list[float]) -> float:
        pairs = zip(ours, native, strict=True)
        return round(statistics.median(a / b for a, b in pairs), 4)

    kinds = (
        samples.native_cold,
        samples.native_hit,
        samples.cold,
        samples.warm,
        samples.restart,
    )
    identical = all(
        answer.token_ids == right.token_ids
        for answers in kinds
        for answer, right in zip(answers, samples.reference, strict=True)
    )
    return {
        "ttft_native_cold": ttft(samples.native_cold),
        "ttft_native_hit": ttft(samples.native_hit),
        "ttft_cold": ttft(samples.cold),
        "ttft_warm": ttft(samples.warm),
        "ttft_restart": ttft(samples.restart),
        "warm_over_native_hit": ratio(
            [answer.ttft_s for answer in samples.warm],
            [answer.ttft_s for answer in samples.native_hit],
        ),
        "cold_overhead": ratio(
            [answer.ttft_s for answer in samples.cold],
            [answer.ttft_s for answer in samples.native_cold],
        ),
        # The decode steps right after a cold prefill: its chunks are being stored meanwhile.
        "tpot_overhead": ratio(
            [answer.tpot_s for answer in samples.cold],
            [answer.tpot_s for answer in samples.native_cold],
        ),
        "identical": identical,
    }


def _line(samples: Samples) -> str:
    return (
        f"cold {samples.native_cold[-1].ttft_s:.3f} s off, "
        f"{samples.cold[-1].ttft_s:.3f} s on; "
        f"hit {samples.native_hit[-1].ttft_s:.3f} s in vLLM's own cache, "
        f"{samples.warm[-1].ttft_s:.3f} s from DRAM"
    )
