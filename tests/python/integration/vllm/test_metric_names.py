# SPDX-License-Identifier: Apache-2.0
"""The list of metrics: each name once, each filled by something, each in the manual."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="statistics travel in vLLM's container")

from lmcache.integration.vllm.metric_names import RATES, SERIES, exposed
from lmcache.integration.vllm.stats import COUNTERS, GAUGES, OBSERVATIONS

KINDS = {"counter": COUNTERS, "gauge": GAUGES, "histogram": OBSERVATIONS}
MANUAL = Path(__file__).parents[4] / "docs" / "metrics.md"


def test_each_name_is_there_once():
    names = [series.name for series in exposed()] + [rate.name for rate in RATES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("series", exposed(), ids=lambda series: series.name)
def test_each_is_filled(series):
    assert set(series.sources.values()) <= set(KINDS[series.kind])
    assert bool(series.label) is (set(series.sources) != {""})
    assert bool(series.buckets) is (series.kind == "histogram")
    assert list(series.buckets) == sorted(set(series.buckets))


def test_rates_are_of_counters():
    for rate in RATES:
        assert {rate.part, rate.whole} <= set(COUNTERS)


def test_every_counter_is_shown_or_known_to_be_inside_another():
    shown = {source for series in exposed() for source in series.sources.values()}
    hidden = set(COUNTERS) - shown
    assert hidden == {
        "loaded_tokens",  # counted on each rank; shown of each request once
        "dropped_chunks",  # shown by reason
        "disk_read_chunks",
        "disk_written_chunks",
        "prefill_tokens",
        "prefill_seconds",
    }


def test_the_manual_lists_exactly_these():
    text = MANUAL.read_text(encoding="utf-8")
    table = text.split("## Not here")[0]
    written = set(re.findall(r"`(lmcache(?::|_mp_)\w+)`", table))
    ours = {shown(series.name, series.kind) for series in exposed()}
    ours |= {rate.name for rate in RATES}
    assert written == ours
    for series in SERIES:
        row = next(
            line
            for line in table.splitlines()
            if line.startswith(f"| `{shown(series.name, series.kind)}`")
        )
        for alias in series.aliases:
            assert f"`{shown(alias, series.kind)}`" in row


def shown(name, kind):
    return f"{name}_total" if kind == "counter" else name
