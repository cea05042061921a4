# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench lookup`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmcache.bench.lookup import LookupBench

FIGURES = {
    "tokens": 131072,
    "sha256_us": 300.0,
    "lookup_us": 390.0,
    "ratio": 1.3,
    "by_entries": [{"entries": 1000, "lookup_us": 100.0}, {"entries": 10, "lookup_us": 390.0}],
    "processes": {"1": 390.0, "2": 400.0},
}


@pytest.mark.multiprocess
def test_it_measures(run: Any) -> None:
    done = run("bench", "lookup", "--json", "--entries", "1000", "--samples", "3")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    assert list(figures) == list(FIGURES)
    assert [point["entries"] for point in figures["by_entries"]] == [1000]


def test_the_table_says_what_was_reached(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LookupBench, "run", lambda *_: FIGURES)
    out = run("bench", "lookup").out
    [ratio] = (line for line in out.splitlines() if "look-up / SHA-256" in line)
    [flat] = (line for line in out.splitlines() if "slowest / fastest" in line)
    assert "1.30  <= 1.5  reached" in ratio
    assert "3.90  <= 2    missed" in flat
    assert "look-up, 2 process(es) at once" in out


def test_steps_are_powers_of_ten(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        LookupBench, "run", lambda bench, _tell: seen.append(bench.entries) or FIGURES
    )
    run("bench", "lookup", "--entries", "50000")
    run("bench", "lookup")
    assert seen == [(1000, 10_000), (1000, 10_000, 100_000, 1_000_000)]


def test_memory_that_is_not_there(run: Any) -> None:
    done = run("bench", "lookup", "--entries", "1000000000")
    assert done.status == 2
    assert "so many chunks need 128.1 GB" in done.err
