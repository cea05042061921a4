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


def test_ttft_reduction_compares_computing_with_loading():
    stats = LMCacheStats()
    assert stats.ttft_reduction() == 1.0
    stats.add(prefill_tokens=1000, prefill_seconds=2.0)
    assert stats.ttft_reduction() == 1.0
    stats.add(loaded_tokens=500, load_seconds=0.1)
    assert stats.ttft_reduction() == pytest.approx(10.0)
