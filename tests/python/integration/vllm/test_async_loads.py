# SPDX-License-Identifier: Apache-2.0
"""Loads that requests wait for in vLLM's queue."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from paged_geometry import geometry

from lmcache.integration.vllm.async_loads import AsyncLoads
from lmcache.integration.vllm.device_stream import CudaStream, HostStream
from lmcache.integration.vllm.geometry import GroupGeometry
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import LoadPlan

GROUPS = (GroupGeometry(("a",), (64,), 8), GroupGeometry(("b",), (32,), 8, window_tokens=32))


class Jobs:
    """An engine whose jobs end when the test says so."""

    def __init__(self):
        self.submitted, self.cancelled, self.requests = [], [], []
        self.streams: list[int | None] = []
        self.over: set[int] = set()
        self.failed: dict[int, list[int]] = {}

    def submit_load(self, view, items, stream=None):
        self.submitted.append((view, items))
        self.streams.append(stream)
        return len(self.submitted)

    def poll(self, job):
        return job in self.over

    def cancel_job(self, job):
        self.cancelled.append(job)

    def finish(self, job):
        return [0] if job in self.cancelled else self.failed.get(job, [])

    def count_request(self, *counted):
        self.requests.append(counted)


def plan(name, refs=((1, 2), (3, 4)), window=((), (21,))):
    return LoadPlan(
        name,
        [list(lane) for lane in refs],
        [[0, 0], [0, 0]],
        [[[10], [11]], [list(ids) for ids in window]],
        shares_last_block=False,
        asked_tokens=20,
        hit_tokens=16,
        ahead=True,
    )


@pytest.fixture
def engine():
    return Jobs()


@pytest.fixture
def stats():
    return LMCacheStats()


@pytest.fixture
def loads(engine, stats):
    return AsyncLoads(engine, HostStream(), geometry(groups=GROUPS), [7, 8], 60.0, stats)


def test_a_request_waits_for_all_groups(engine, loads, stats):
    loads.start(plan("r"))
    # Of the second group the window has passed the first chunk.
    assert engine.submitted == [(7, [(1, 0, [10]), (2, 0, [11])]), (8, [(4, 0, [21])])]
    engine.over.add(1)
    assert loads.take_ended() == (set(), set())
    engine.over.add(2)
    assert loads.take_ended() == ({"r"}, set())
    assert loads.take_ended() == (set(), set())
    assert stats.data["loaded_bytes"] == 2 * 64 + 32
    assert stats.data["loaded_tokens"] == 16
    ((asked, hit, elapsed_ns),) = engine.requests
    assert (asked, hit) == (20, 16)
    assert 0 < elapsed_ns < 60e9


def test_others_do_not_wait(engine, loads):
    loads.start(plan("slow"))
    loads.start(plan("quick"))
    engine.over |= {3, 4}
    assert loads.take_ended() == ({"quick"}, set())
    engine.over |= {1, 2}
    assert loads.take_ended() == ({"slow"}, set())


@pytest.mark.parametrize("job", [1, 2])
def test_one_failed_piece_fails_the_request(engine, loads, stats, job):
    loads.start(plan("r"))
    engine.over |= {1, 2}
    engine.failed[job] = [0]
    assert loads.take_ended() == ({"r"}, {"r"})
    assert stats.data["failed_blocks"] == 2
    assert "loaded_tokens" not in stats.data
    assert engine.requests == []


def test_a_chunk_that_is_gone_fails_once_what_was_begun_has_ended(engine, loads):
    loads.start(plan("r", refs=((1, 2), (3, 0))))
    assert loads.take_ended() == (set(), set())  # the first group is still being copied
    engine.over.add(1)
    assert loads.take_ended() == ({"r"}, {"r"})


def test_what_takes_too_long_is_dropped(engine, stats, caplog):
    loads = AsyncLoads(engine, HostStream(), geometry(groups=GROUPS), [7, 8], 0.0, stats)
    loads.start(plan("r"))
    engine.over.add(1)
    assert loads.take_ended() == ({"r"}, {"r"})
    assert engine.cancelled == [2]
    assert "recomputing" in caplog.text


def test_an_engine_that_does_not_answer_loses_them_all(engine, loads):
    loads.start(plan("a"))
    loads.start(plan("b"))
    assert set(loads.abandon()) == {"a", "b"}
    engine.over |= {1, 2, 3, 4}
    assert loads.take_ended() == (set(), set())


def test_on_a_gpu_loads_wait_for_what_is_on_the_stream(engine, stats):
    cuda = types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=700 + device)
    )
    loads = AsyncLoads(engine, CudaStream(0, cuda), geometry(groups=GROUPS), [7, 8], 60.0, stats)
    loads.start(plan("r"))
    assert engine.streams == [700, 700]
