# SPDX-License-Identifier: Apache-2.0
"""An engine whose store is behind a slow and distant network: it is late for nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from kv_arrays import empty_kv, is_untouched
from redis_server import connected, until
from throttled_proxy import ThrottledProxy

from lmcache import LMCacheEngine
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")  # 1 KB a token
SLOW = 2e6  # bytes per second
LATENCY_S = 0.05
LONG = 24_000  # tokens, of which the slow network moves 2,000 in a second
LONG_S = 12


@pytest.fixture
def proxy(redis_server: Any) -> Iterator[ThrottledProxy]:
    with ThrottledProxy(redis_server.port) as between:
        yield between


def tokens_of(seed: int, size: int) -> list[int]:
    return [seed, *range(1, size)]


def kv_of(seed: int, size: int) -> np.ndarray[Any, Any]:
    """Return KV that begins as that of fewer tokens does."""
    values = np.random.default_rng(seed).standard_normal((size, 2, 2, 2, 32), np.float32)
    return np.ascontiguousarray(np.moveaxis(values, 0, 2))


def open_engine(url: str, **settings: Any) -> LMCacheEngine:
    config = {
        "max_local_cpu_size": 0.2,
        "segment": "private",
        "remote_url": url,
        "load_policy": "always",
        "remote_lookup_timeout_ms": 5000,  # also on a machine that is busy with something else
        **settings,
    }
    engine = LMCacheEngine(config, model="m", geometry=GEOMETRY)
    until(lambda: connected(engine))
    return engine


def fill(url: str, seeds: range, size: int) -> None:
    with open_engine(url) as engine:
        for seed in seeds:
            assert engine.store(tokens_of(seed, size), kv_of(seed, size)) == size
        engine.flush()


def ask(engine: LMCacheEngine, seed: int, size: int) -> tuple[int, float]:
    """Return the tokens found, of which every byte is right, and the seconds that it took."""
    out = empty_kv(size, GEOMETRY)
    began = time.monotonic()
    found = engine.retrieve(tokens_of(seed, size), out)
    took = time.monotonic() - began
    np.testing.assert_array_equal(out[:, :, :found], kv_of(seed, size)[:, :, :found])
    assert is_untouched(out, found)
    return found, took


def is_all_sent(engine: LMCacheEngine, seed: int) -> bool:
    """Store; tell whether all of it went to the store."""
    before = engine._native.stats()
    assert engine.store(tokens_of(seed, LONG), kv_of(seed, LONG)) == LONG
    engine.flush()
    after = engine._native.stats()
    new, sent = (after[name] - before[name] for name in ("stored_chunks", "remote_written_chunks"))
    return bool(sent == new)


def is_at_rest(engine: LMCacheEngine) -> bool:
    status = engine._native.status()
    return bool(status["leased"] == status["writing"] == 0)


def test_reads_end_at_their_deadline(redis_server: Any, proxy: ThrottledProxy) -> None:
    fill(redis_server.url, range(1), LONG)
    proxy.throttle(SLOW, LATENCY_S)
    with open_engine(proxy.url, blocking_timeout_secs=1) as engine:
        found, took = ask(engine, 0, LONG)
        assert found < LONG
        assert took < LONG_S / 2
        counts = engine._native.stats()
        assert counts["remote_read_errors"] > 0
        assert counts["remote_corrupt_chunks"] == 0
        # What it has from there is what it says it has, and right.
        assert ask(engine, 0, found or 1)[0] == found
        proxy.release()
        until(lambda: connected(engine))
        until(lambda: ask(engine, 0, LONG)[0] == LONG)
        until(lambda: is_at_rest(engine))


def test_stores_wait_for_nothing_and_what_is_late_is_not_sent(
    redis_server: Any, proxy: ThrottledProxy
) -> None:
    proxy.throttle(SLOW, LATENCY_S)
    with open_engine(proxy.url, blocking_timeout_secs=1) as engine:
        kv, began = kv_of(0, LONG), time.monotonic()
        assert engine.store(tokens_of(0, LONG), kv) == LONG
        assert ask(engine, 0, LONG)[0] == LONG
        assert time.monotonic() - began < LONG_S / 2
        engine.flush()
        assert time.monotonic() - began < LONG_S
        counts = engine._native.stats()
        lost = counts["remote_dropped_writes"] + counts["remote_write_errors"]
        assert lost > 0
        assert counts["remote_written_chunks"] + lost == counts["stored_chunks"]
        proxy.release()
        sent = count(1)
        until(lambda: is_all_sent(engine, next(sent)))
        last = next(sent) - 1
    # A value that was cut off in the middle is none.
    with open_engine(redis_server.url) as other:
        assert ask(other, last, LONG)[0] == LONG
        ask(other, 0, LONG)
        assert other._native.stats()["remote_corrupt_chunks"] == 0


@pytest.mark.slow
def test_what_is_slower_than_computing_is_not_fetched_until_it_is_fast_again(
    redis_server: Any, proxy: ThrottledProxy
) -> None:
    """A prompt takes 2.4 s to compute, 6 s to fetch through the proxy, and a few ms without it."""
    size, computing_s = 12_000, 2.4
    fill(redis_server.url, range(4), size)
    proxy.throttle(SLOW, 0.01)
    with open_engine(proxy.url, load_policy="auto", max_local_cpu_size=0.3) as engine:
        engine.record_prefill(size, computing_s)
        # It finds out with the first; whatever else was asked for meanwhile is over by then.
        for _ in range(2):
            assert ask(engine, 0, size)[1] < computing_s
        engine.flush()
        until(lambda: is_at_rest(engine))
        before = engine._native.stats()
        passed = proxy.to_client.passed_bytes
        assert before["loads_abandoned"] > 0
        for seed in range(1, 4):
            found, took = ask(engine, seed, size)
            assert (found, took < computing_s) == (0, True)
        after = engine._native.stats()
        assert after["loads_declined"] >= before["loads_declined"] + 3
        assert after["remote_read_chunks"] == before["remote_read_chunks"]
        assert proxy.to_client.passed_bytes - passed < 100_000  # answers only
        proxy.release()
        # A slow store is believed to be slow for 30 s.
        until(lambda: ask(engine, 3, size)[0] == size, 90)
        assert ask(engine, 2, size)[0] == size
        assert after["remote_corrupt_chunks"] == 0
        until(lambda: is_at_rest(engine))
