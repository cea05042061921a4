# SPDX-License-Identifier: Apache-2.0
"""Counters that add up over processes and intervals."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="statistics travel in vLLM's container")

from lmcache.integration.vllm.stats import LMCacheStats


def test_taking_starts_again():
    stats = LMCacheStats()
    assert stats.take() is None
    stats.add(lookups=1, hit_tokens=10)
    stats.add(lookups=1)
    assert stats.take().data == {"lookups": 2, "hit_tokens": 10}
    assert stats.is_empty()


def test_unknown_counters_are_a_mistake():
    with pytest.raises(KeyError, match="hits"):
        LMCacheStats().add(hits=1)


def test_workers_add_up():
    one, two = LMCacheStats(), LMCacheStats()
    one.add(loaded_bytes=5e6, loads=1)
    two.add(loaded_bytes=3e6, load_seconds=0.001)
    assert one.aggregate(two).data == {"loaded_bytes": 8e6, "loads": 1, "load_seconds": 0.001}
    figures = one.reduce()
    assert figures["loaded MB"] == 8.0
    assert figures["load GB/s"] == 8.0


def test_hit_rate_is_of_tokens():
    stats = LMCacheStats()
    stats.add(lookups=2, lookup_tokens=200, hit_tokens=50, failed_blocks=1)
    figures = stats.reduce()
    assert figures["hit rate"] == 0.25
    assert figures["failed blocks"] == 1


def test_lists_are_joined_and_what_is_true_now_is_not_summed():
    one, two = LMCacheStats(), LMCacheStats()
    one.observe(load_times=0.5)
    one.put(healthy=1.0, dram_used_bytes=10)
    two.observe(load_times=0.25)
    two.put(dram_used_bytes=30)
    merged = one.aggregate(two).data
    assert merged == {"load_times": [0.5, 0.25], "healthy": 1.0, "dram_used_bytes": 30}
    with pytest.raises(KeyError, match="healthy"):
        one.add(healthy=1)
    with pytest.raises(KeyError, match="loads"):
        one.observe(loads=1)
    with pytest.raises(KeyError, match="loads"):
        one.put(loads=1)


def test_a_load_is_observed_with_its_speed():
    stats = LMCacheStats()
    stats.observe_loads()
    assert stats.is_empty()
    stats.add(loads=2, load_seconds=0.5, retrieved_tokens=100)
    stats.observe_loads()
    assert stats.data["load_times"] == [0.25]
    assert stats.data["load_speeds"] == [200.0]


def test_a_load_that_brought_nothing_has_no_speed():
    stats = LMCacheStats()
    stats.add(loads=1, load_seconds=0.5)
    stats.observe_loads()
    assert "load_speeds" not in stats.data


def test_the_log_line_names_what_went_wrong_only_when_something_did():
    stats = LMCacheStats()
    stats.add(stored_bytes=2e6, lookups=1)
    figures = stats.reduce()
    assert figures["stored MB"] == 2.0
    assert not {"dropped chunks", "off", "from disk", "from remote"} & figures.keys()
    stats.add(dropped_no_space=2, dropped_copy_failed=1, dropped_chunks=1, disk_hit_tokens=5)
    stats.put(healthy=0.0)
    figures = stats.reduce()
    assert figures["dropped chunks"] == 3  # the ones given back are among the reasons
    assert figures["from disk"] == 5
    assert figures["off"] == 1


def test_ttft_reduction_compares_computing_with_loading():
    stats = LMCacheStats()
    assert stats.ttft_reduction() == 1.0
    stats.add(prefill_tokens=1000, prefill_seconds=2.0)
    assert stats.ttft_reduction() == 1.0
    stats.add(loaded_tokens=500, load_seconds=0.1)
    assert stats.ttft_reduction() == pytest.approx(10.0)
