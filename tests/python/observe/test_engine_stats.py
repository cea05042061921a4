# SPDX-License-Identifier: Apache-2.0
"""The counters of an engine, and the engines of a process."""

from __future__ import annotations

import gc

import pytest

from lmcache import _native
from lmcache.errors import ClosedError
from lmcache.observe import EngineStats
from lmcache.observe.engine_stats import open_engines


def open_native() -> _native.Engine:
    return _native.Engine.open(_native.EngineOptions(capacity_bytes=1 << 24), lambda *_: None)


def test_what_is_recorded_is_counted() -> None:
    engine = open_native()
    stats = EngineStats(engine)
    stats.record_prefill(100, 0.5)
    stats.record_prefill(50, 0.25)
    stats.record_request(1000, 800, 0.001)
    stats.record_request(10, 0, -1.0)  # a clock that went back
    stats.record_failure("timeout")
    stats.record_failure("timeout")
    counted = stats.counters()
    assert (counted["prefill_tokens"], counted["prefill_ns"]) == (150, 750_000_000)
    assert (counted["requests"], counted["request_tokens"]) == (2, 1010)
    assert (counted["request_hit_tokens"], counted["request_load_ns"]) == (800, 1_000_000)
    assert stats.failures() == {"timeout": 2}
    assert stats.segment()["total"]["requests"] == 2
    engine.close()
    assert stats.closed
    with pytest.raises(ClosedError):
        stats.counters()


def test_open_engines_are_those_that_live_and_are_open() -> None:
    first, second = open_native(), open_native()
    one, two = EngineStats(first), EngineStats(second)
    assert set(open_engines()) == {one, two}
    first.close()
    assert open_engines() == [two]
    del two
    gc.collect()
    assert open_engines() == []
    second.close()
