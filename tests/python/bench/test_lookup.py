# SPDX-License-Identifier: Apache-2.0
"""The look-up benchmark measures hits, and leaves no segment behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcache.bench.lookup import LookupBench, spread

KEYS = ["tokens", "sha256_us", "lookup_us", "ratio", "by_entries", "processes"]


@pytest.mark.multiprocess
def test_keys_and_figures() -> None:
    figures = LookupBench(entries=(40, 80), tokens=4096, samples=3).run()
    assert list(figures) == KEYS
    assert figures["tokens"] == 4096
    assert [point["entries"] for point in figures["by_entries"]] == [40, 80]
    assert figures["lookup_us"] == figures["by_entries"][-1]["lookup_us"]
    assert list(figures["processes"]) == ["1", "2"]
    assert figures["ratio"] > 0
    assert figures["sha256_us"] > 0
    assert all(time_us > 0 for time_us in figures["processes"].values())
    assert list(Path("/dev/shm").glob("lmcache-*-bench-lookup-*")) == []


def test_spread_is_slowest_over_fastest() -> None:
    points = [{"lookup_us": time_us} for time_us in (30.0, 20.0, 50.0)]
    assert spread(points) == 2.5
