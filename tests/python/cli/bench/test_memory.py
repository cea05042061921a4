# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench memory`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmcache.bench.memory import MemoryBench

FIGURES = {
    "memcpy_gbps": 10.0,
    "store_gbps": 9.5,
    "load_gbps": 5.0,
    "store_ratio": 0.95,
    "load_ratio": 0.5,
    "threads": 2,
}


def test_it_measures(run: Any) -> None:
    done = run("bench", "memory", "--json", "--size", "0.02", "--rounds", "1", "--threads", "1")
    assert done.status == 0, done.err
    assert list(json.loads(done.out)) == list(FIGURES)


def test_the_table_says_what_was_reached(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBench, "run", lambda *_: FIGURES)
    out = run("bench", "memory").out
    store, load = (line for line in out.splitlines() if "/ memcpy" in line)
    assert "0.950  >= 0.9  reached" in store
    assert "0.500  >= 0.9  missed" in load


def test_memory_that_is_not_there(run: Any) -> None:
    done = run("bench", "memory", "--size", "100000")
    assert done.status == 2
    assert "--size = 100000: three buffers of that size need 330000.0 GB" in done.err
