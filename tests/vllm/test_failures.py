# SPDX-License-Identifier: Apache-2.0
"""Whatever breaks in the cache, requests are answered as without it, and the log says so once."""

from __future__ import annotations

import logging
import random

import pytest
from faulty_engine import FaultyEngine

CHUNK = 64
PROMPT = [random.Random(11).randrange(3, 2000) for _ in range(6 * CHUNK + 20)]
PREFIX = PROMPT[: 3 * CHUNK + 10]


def config(**changes):
    return {"chunk_size": CHUNK, "segment": "private", "max_local_cpu_size": 0.2, **changes}


@pytest.fixture(scope="module")
def reference(open_llm):
    return open_llm(block_size=32).ask_one(PROMPT)


@pytest.fixture
def llm(open_llm):
    """An engine with both native engines behind a decorator that can make calls fail."""
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=config())
    worker, scheduler = llm.worker, llm.connector._scheduler_half
    llm.worker_faults = faulty(worker._attachment)
    worker._stores._engine = worker._attachment.engine
    llm.scheduler_faults = faulty(scheduler._attachment)
    for part in (scheduler, scheduler._stores, scheduler._ledger):
        part._engine = scheduler._attachment.engine
    return llm


def faulty(attachment):
    engine = FaultyEngine(attachment.engine)
    object.__setattr__(attachment, "engine", engine)
    return engine.faults


@pytest.fixture
def lines(caplog, monkeypatch):
    """The lines of the cache in the log; vLLM keeps its own from the root logger."""
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)

    def warnings() -> list[str]:
        return [text for text in caplog.messages if text.startswith("LMCache")]

    return warnings


def broken(real, *arguments):
    raise OSError("broken on purpose")


def first_chunk_gone(real, view, items):
    return real(view, [(1, *items[0][1:]), *items[1:]])


def test_a_chunk_that_is_gone_is_computed(llm, reference):
    llm.ask_one(PREFIX)
    llm.worker_faults["submit_load"] = first_chunk_gone
    assert llm.ask_one(PROMPT).differs_from(reference) == ""
    llm.worker_faults.clear()
    for _ in range(2):  # nothing wrong was stored meanwhile
        assert llm.ask_one(PROMPT).differs_from(reference) == ""
    assert llm.ask_one(PROMPT).cached_tokens == len(PROMPT) - 1


def test_a_load_that_takes_too_long_is_dropped(llm, reference, lines):
    llm.ask_one(PREFIX)
    llm.worker._deadline_s = 0.01
    llm.worker_faults["wait"] = lambda real, job, timeout_ms: False
    assert llm.ask_one(PROMPT).differs_from(reference) == ""
    assert any("took over" in line for line in lines())


@pytest.mark.parametrize(
    "call", ["submit_load", "submit_store", "wait", "finish", "poll", "wait_plane"]
)
def test_a_worker_that_breaks_goes_on_without_the_cache(llm, reference, lines, call):
    llm.worker._layerwise = 0  # so that every call is made
    llm.ask_one(PREFIX)
    llm.worker_faults[call] = broken
    for _ in range(3):
        assert llm.ask_one(PROMPT).differs_from(reference) == ""
    said = [line for line in lines() if "going on without the cache" in line]
    assert len(said) == 1
    assert "broken on purpose" in said[0]


@pytest.mark.parametrize(
    "call", ["lookup", "reserve", "is_ready", "new_prompt", "lane_block_bytes"]
)
def test_a_scheduler_that_breaks_goes_on_without_the_cache(llm, reference, lines, call):
    llm.ask_one(PREFIX, salt="another namespace")
    llm.scheduler_faults[call] = broken
    for salt in (None, "new", None):
        llm.settle()
        assert llm.ask_one(PROMPT, salt=salt).differs_from(reference) == ""
    assert len([line for line in lines() if "going on without the cache" in line]) <= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"segment": "/proc/self/nowhere"},  # nothing can be made there
        {"max_local_cpu_size": 1e6},  # no machine has so much
    ],
    ids=["no place", "no room"],
)
def test_a_segment_that_cannot_be_had(open_llm, reference, lines, settings):
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=config(**settings))
    for _ in range(2):
        answer = llm.ask_one(PROMPT)
        assert answer.differs_from(reference) == ""
        assert answer.cached_tokens == 0
    assert len([line for line in lines() if "vLLM runs without the cache" in line]) == 1


def test_prefix_caching_may_be_switched_off(open_llm, reference, lines):
    off = config(enable_prefix_cache=False)
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=off)
    llm.ask_one(PROMPT)
    answer = llm.ask_one(PROMPT)
    assert answer.cached_tokens == 0
    assert answer.differs_from(reference) == ""
