# SPDX-License-Identifier: Apache-2.0
"""Random streams of requests get, token by token, the answers of vLLM without a cache.

SEED and MINUTES in the environment say which and for how long (0: one short round), SETUP which
engine alone. Bugs that are planted on purpose show that it finds some.
"""

from __future__ import annotations

import os
import random

import pytest
from differential import Differential, run_rounds
from planted_bugs import BUGS
from request_streams import make_questions, make_stream
from stream_engines import SETUPS, write_adapters

from lmcache.integration.vllm import load_watch

SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**9))
MINUTES = float(os.environ.get("MINUTES") or 0)
SETUP = os.environ.get("SETUP", "")
# One stream or other may miss a bug that shows only when copies are late at the right moment.
PLANTED_SEEDS = ("planted", "planted again", "planted a third time", "planted a fourth time")
# Against a hang, not a limit on how slow a machine may be: that one is in `stream_runner`.
HANGS_S = 3600


@pytest.fixture(scope="module")
def differential(open_llm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("differential")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_watch, "_PAUSE_STEPS", 20)  # else the first failures end a stream's hits
        yield Differential(open_llm, write_adapters(folder), folder)


def test_a_seed_gives_the_same_streams():
    first, again, other = (make_questions(seed, 20) for seed in ("1", "1", "2"))
    assert first == again != other
    assert make_stream("1", first, 40) == make_stream("1", again, 40)
    assert make_stream("1", first, 40) != make_stream("2", first, 40)


@pytest.mark.timeout(MINUTES * 60 + HANGS_S)
def test_answers_are_those_without_a_cache(differential):
    print(f"\nSEED={SEED} MINUTES={MINUTES:g}", flush=True)
    differential.counts.clear()
    found = run_rounds(differential, SEED, MINUTES, SETUP)
    counts = differential.counts
    print(dict(counts), flush=True)
    assert not found, "\n".join([f"SEED={SEED}", *found])
    if SETUP:
        return
    # Not hard enough otherwise.
    for name in ("preempted", "loaded_tokens", "evicted_chunks", "disk_read_chunks"):
        assert counts[name] > 0
    for name in ("aborted_before_tokens", "aborted_after_tokens"):
        assert counts[name] > 0
    assert counts["close_calls"] <= counts["requests"] / 100


@pytest.mark.timeout(HANGS_S)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(differential, monkeypatch, bug):
    setup, plant = BUGS[bug]
    found: list[str] = []
    for seed in PLANTED_SEEDS:
        differential.references(SETUPS[setup].model, seed)
        with monkeypatch.context() as patch:
            plant(patch)
            found = differential.findings(setup, seed)
        if found:
            break
    print("\n".join(found[:3]))
    assert found
