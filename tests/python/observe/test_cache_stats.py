# SPDX-License-Identifier: Apache-2.0
"""`get_cache_stats()` adds up, wherever it looks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from cache_process import SETTINGS, CacheProcess
from kv_arrays import GEOMETRY, empty_kv, kv_of

from lmcache import LMCacheEngine, get_cache_stats
from lmcache.errors import ClosedError
from lmcache.observe.cache_stats import ttft_reduction

PROMPT = list(range(100))
KEYS = {
    "source",
    "hit_rate",
    "avg_ttft_reduction",
    "lookups",
    "lookup_tokens",
    "hit_tokens",
    "stored",
    "loaded",
    "evicted",
    "dropped_stores",
    "duplicate_stores",
    "load_failures",
    "failures",
    "tiers",
}


def private() -> LMCacheEngine:
    return LMCacheEngine({**SETTINGS, "segment": "private"}, model="m")


def test_one_engine() -> None:
    with private() as engine:
        engine.lookup(PROMPT)  # nothing known yet, so nothing is asked
        engine.store(PROMPT, kv_of(PROMPT))
        engine.store(PROMPT, kv_of(PROMPT))
        engine.lookup([*PROMPT[:50], *range(500, 550)])
        engine.retrieve(PROMPT, empty_kv(100))
        stats = get_cache_stats(engine)
    size = 100 * GEOMETRY.token_bytes
    assert set(stats) == KEYS
    assert stats["source"] == "engine"
    assert stats["hit_rate"] == 0.75
    assert (stats["lookups"], stats["lookup_tokens"], stats["hit_tokens"]) == (2, 200, 150)
    assert stats["stored"] == {"chunks": 7, "tokens": 100, "bytes": size}
    assert stats["loaded"] == {"chunks": 7, "tokens": 100, "bytes": size}
    assert stats["evicted"] == {"chunks": 0, "bytes": 0, "expired_chunks": 0}
    assert stats["dropped_stores"]["total"] == 0
    assert {"no_space", "too_large", "lock_timeout", "copy_failed"} <= set(stats["dropped_stores"])
    assert stats["duplicate_stores"] == 7
    assert {"total", "gone", "timeout"} <= set(stats["load_failures"])
    assert stats["failures"] == {}
    dram = stats["tiers"]["dram"]
    assert (dram["used_bytes"], dram["entries"]) == (size, 7)
    assert 0 < dram["capacity_bytes"] <= 30_000_000
    assert stats["avg_ttft_reduction"] is None
    with pytest.raises(ClosedError):
        get_cache_stats(engine)


def test_all_engines_of_this_process(segment: str) -> None:
    shared = {**SETTINGS, "segment": segment}
    with private() as one, LMCacheEngine(shared, model="m") as two, LMCacheEngine(shared) as three:
        for engine in (one, two, three):
            engine.store(PROMPT, kv_of(PROMPT))
            engine.lookup(PROMPT)
        sizes = [engine.stats()["tiers"]["dram"]["capacity_bytes"] for engine in (one, two)]
        stats = get_cache_stats()
        three.close()
        fewer = get_cache_stats()
    assert stats["source"] == "process"
    assert (stats["stored"]["chunks"], stats["hit_tokens"]) == (21, 300)
    assert stats["tiers"]["dram"]["capacity_bytes"] == sum(sizes)  # a shared segment counts once
    assert stats["tiers"]["dram"]["entries"] == 21
    assert fewer["stored"]["chunks"] == 14


def test_without_an_engine_it_is_the_segment(segment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_SEGMENT", segment)
    assert get_cache_stats()["source"] == "nothing"
    assert get_cache_stats()["hit_rate"] == 0.0
    with CacheProcess(segment) as other:
        other.store(PROMPT)
        other.retrieve(PROMPT)
        other.record(2.0, [1000, 900, 0.1])
        stats = get_cache_stats()
        assert stats["source"] == "segment"
        assert (stats["hit_rate"], stats["stored"]["tokens"]) == (1.0, 100)
        # 2 ms per token: 1100 tokens took 2.2 s; of these 1000 were loaded, 900 in 0.1 s.
        assert stats["avg_ttft_reduction"] == pytest.approx(2.2 / (0.2 + 0.1), rel=0.2)
        other.leave()
    gone = get_cache_stats()  # what a process counted outlives it
    assert (gone["stored"], gone["hit_tokens"]) == (stats["stored"], 100)
    assert gone["avg_ttft_reduction"] == stats["avg_ttft_reduction"]
    monkeypatch.setenv("LMCACHE_SEGMENT", "private")
    assert get_cache_stats()["source"] == "nothing"


def counts(**values: int) -> Counter[str]:
    return Counter(values)


def test_reduction_is_the_ratio_of_average_waits() -> None:
    measured = counts(prefill_tokens=1000, prefill_ns=2_000_000, request_tokens=3000)
    assert ttft_reduction(measured) == 1.0  # nothing was found
    half = measured + counts(request_hit_tokens=1500)
    assert ttft_reduction(half) == 2.0
    slow = half + counts(request_load_ns=3_000_000)
    assert ttft_reduction(slow) == 1.0  # as slow as computing it


@pytest.mark.parametrize(
    "measured",
    [
        counts(),
        counts(request_tokens=100, request_hit_tokens=50, request_load_ns=9),
        counts(prefill_tokens=100, prefill_ns=10),
        counts(prefill_tokens=100, request_tokens=100),
    ],
)
def test_no_reduction_without_measurements(measured: Counter[str]) -> None:
    assert ttft_reduction(measured) is None


def test_a_request_served_in_no_time() -> None:
    whole: dict[str, Any] = {"prefill_tokens": 1, "prefill_ns": 1, "request_tokens": 5}
    assert ttft_reduction(counts(**whole, request_hit_tokens=5)) is None
