# SPDX-License-Identifier: Apache-2.0
"""Tokens of requests by the tier they came from, and how full the tiers are."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="statistics travel in vLLM's container")

from lmcache.errors import ClosedError
from lmcache.integration.vllm.native_counters import NAMES
from lmcache.integration.vllm.request_counts import RequestCounts
from lmcache.integration.vllm.stats import LMCacheStats

STATUS = {"used_bytes": 5, "capacity_bytes": 9, "ready": 2, "leased": 1, "disk": None}
DISK = {"used_bytes": 70, "limit_bytes": 90}


class Tiers:
    """An engine of which the state and the counters are asked."""

    def __init__(self, disk=None):
        names = [*NAMES, "stored_tokens", "disk_hit_tokens", "remote_hit_tokens"]
        self.counts = dict.fromkeys(names, 0)
        self.state = {**STATUS, "disk": disk}
        self.has_lower_tier = True
        self.closed = False

    def _answer(self, of):
        if self.closed:
            raise ClosedError("closed")
        return dict(of)

    def stats(self):
        return self._answer(self.counts)

    def stats_total(self):
        return sum(self._answer(self.counts).values())

    def status(self):
        return self._answer(self.state)


class Scene:
    """Counts with a clock of the test's."""

    def __init__(self, *, disk, remote):
        self.engine = Tiers(DISK if disk else None)
        self.stats = LMCacheStats()
        self.now = 0.0
        self.counts = RequestCounts(
            self.engine, self.stats, has_remote=remote, clock=lambda: self.now
        )

    def admit(self, external, *, asked=100, load_from=0, tokens=101, name="r"):
        request = types.SimpleNamespace(num_tokens=tokens)
        state = types.SimpleNamespace(
            request_id=name, request=request, asked_tokens=asked, load_from=load_from
        )
        self.counts.admitted(state, external)
        return self.counts.tiers_of(name, external)


@pytest.fixture
def memory():
    return Scene(disk=False, remote=False)


def test_a_hit_in_memory(memory):
    assert memory.admit(60, asked=80) == {"dram": 60}
    assert memory.stats.data == {
        "lookups": 1,
        "lookup_tokens": 80,
        "hit_tokens": 60,
        "hit_requests": 1,
        "prompt_tokens": 101,
        "engine_hit_tokens": 20,
        "dram_hit_tokens": 60,
        "request_hit_rates": [0.75],
    }


def test_a_miss(memory):
    assert memory.admit(0) == {}
    assert memory.stats.data["hit_requests"] == 0
    assert memory.stats.data["request_hit_rates"] == [0.0]


def test_sources_are_told_for_the_request_admitted_last(memory):
    memory.admit(60)
    assert memory.counts.tiers_of("r", 59) == {}
    assert memory.counts.tiers_of("another", 60) == {}


@pytest.mark.parametrize(
    ("disk", "remote", "below"), [(True, False, "disk"), (False, True, "remote")]
)
def test_what_was_waited_for_came_from_below(disk, remote, below):
    scene = Scene(disk=disk, remote=remote)
    scene.counts.waits("r", 40)
    assert scene.admit(50, load_from=10) == {"dram": 30, below: 20}
    assert scene.admit(50) == {"dram": 50}  # it waits no more


def test_memory_that_vllm_has_itself_is_not_counted():
    scene = Scene(disk=True, remote=False)
    scene.counts.waits("r", 40)
    assert scene.admit(30, load_from=60) == {"disk": 30}


def test_with_both_tiers_below_it_is_split_as_it_arrived():
    scene = Scene(disk=True, remote=True)
    scene.engine.counts |= {"disk_hit_tokens": 1000, "remote_hit_tokens": 1000}
    scene.counts.waits("r", 0)
    scene.engine.counts |= {"disk_hit_tokens": 1030, "remote_hit_tokens": 1010}
    assert scene.admit(40) == {"disk": 30, "remote": 10}


def test_a_request_that_is_gone_leaves_nothing_behind():
    scene = Scene(disk=True, remote=False)
    scene.counts.waits("r", 0)
    scene.counts.forget("r")
    scene.counts.forget("never seen")
    assert scene.admit(10) == {"dram": 10}


def test_gauges_are_read_now_and_then_and_when_nothing_is_left():
    scene = Scene(disk=True, remote=False)
    first = scene.counts.take(healthy=True, idle=False)
    assert first.data == {
        "healthy": 1.0,
        "dram_used_bytes": 5,
        "dram_capacity_bytes": 9,
        "dram_chunks": 2,
        "leased_chunks": 1,
        "disk_used_bytes": 70,
        "disk_limit_bytes": 90,
    }
    assert scene.counts.take(healthy=True, idle=False) is None
    assert scene.counts.take(healthy=False, idle=True).data["healthy"] == 0.0
    scene.now += 1.5
    assert "dram_chunks" in scene.counts.take(healthy=True, idle=False).data


def test_counters_are_read_when_a_request_was_counted_and_now_and_then(memory):
    def read():
        taken = memory.counts.take(healthy=True, idle=False)
        return taken and taken.data.get("evicted_chunks")

    read()
    memory.engine.counts["evicted_chunks"] = 1
    assert read() is None
    memory.admit(0)
    assert read() == 1
    memory.engine.counts["evicted_chunks"] = 3
    assert read() is None
    memory.now += 0.2
    assert read() == 2


def test_a_closed_engine_is_no_failure(memory):
    memory.engine.closed = True
    memory.counts.waits("r", 10)
    assert memory.counts.take(healthy=False, idle=True).data == {"healthy": 0.0}
