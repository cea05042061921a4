# SPDX-License-Identifier: Apache-2.0
"""Differences of the native counters, under the connector's names."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="statistics travel in vLLM's container")

from lmcache import _native
from lmcache.integration.vllm.native_counters import NAMES, NativeCounters, tokens_share
from lmcache.integration.vllm.stats import COUNTERS, LMCacheStats


class Counting:
    """An engine of which only the counters are asked."""

    def __init__(self):
        self.counts = dict.fromkeys([*NAMES, "stored_tokens"], 0)
        self.asked = 0

    def stats(self):
        self.asked += 1
        return dict(self.counts)

    def stats_total(self):
        return sum(self.counts.values())


@pytest.fixture
def engine():
    return Counting()


def taken(counters):
    stats = LMCacheStats()
    counters.add_to(stats)
    return stats.data


def test_only_what_is_new_is_counted(engine):
    counters = NativeCounters(engine)
    engine.counts |= {"stored_chunks": 3, "store_ns": 2_000_000, "dropped_stores_no_space": 1}
    assert taken(counters) == {
        "stored_chunks": 3,
        "store_seconds": pytest.approx(0.002),
        "dropped_no_space": 1,
    }
    assert taken(counters) == {}
    engine.counts["stored_chunks"] = 4
    assert taken(counters) == {"stored_chunks": 1}


def test_a_step_that_counts_nothing_reads_no_counters(engine):
    counters = NativeCounters(engine)
    engine.counts["stored_chunks"] = 1
    for _ in range(3):
        taken(counters)
    assert engine.asked == 1


def test_tokens_are_those_of_one_rank(engine):
    quiet, speaks = NativeCounters(engine), NativeCounters(engine, 0.5)
    engine.counts |= {"stored_tokens": 64, "request_hit_tokens": 32}
    assert "stored_tokens" not in taken(quiet)
    assert taken(speaks) == {"stored_tokens": 32, "retrieved_tokens": 32}


def test_the_rank_that_speaks_for_all_observes_the_loads(engine):
    stats = LMCacheStats()
    stats.add(loads=1, load_seconds=0.1)
    NativeCounters(engine).add_to(stats)
    assert "load_times" not in stats.data
    NativeCounters(engine, 1.0).add_to(stats)
    assert stats.data["load_times"] == [0.1]


def test_every_name_is_one_of_both_sides(segment):
    options = _native.EngineOptions(segment=segment, capacity_bytes=1 << 22)
    engine = _native.Engine.open(options, lambda level, text: None)
    assert set(NAMES) <= set(engine.stats())
    assert {name for name, _ in NAMES.values()} <= set(COUNTERS)
    assert engine.stats_total() == sum(engine.stats().values())
    counters = NativeCounters(engine)
    engine.close()
    assert taken(counters) == {}


def test_reasons_are_complete(segment):
    options = _native.EngineOptions(segment=segment, capacity_bytes=1 << 22)
    engine = _native.Engine.open(options, lambda level, text: None)
    reasons = {name for name in engine.stats() if name.startswith(("dropped_stores", "load_fail"))}
    assert reasons - {"dropped_stores_duplicate"} <= set(NAMES)
    engine.close()


@pytest.mark.parametrize(
    ("speaks", "groups", "share"), [(False, 1, 0), (True, 1, 1), (True, 4, 0.25)]
)
def test_each_group_stores_the_same_tokens(speaks, groups, share):
    class Shape:
        counts_requests = speaks

    Shape.groups = (None,) * groups
    assert tokens_share(Shape()) == share
