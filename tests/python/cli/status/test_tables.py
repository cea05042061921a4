# SPDX-License-Identifier: Apache-2.0
"""The report as people read it: markup in names is harmless, trouble is visible."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from lmcache import LMCacheEngine
from lmcache.cli.status.report import report_of
from lmcache.cli.status.tables import render


def shown(report: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(render(report))
    return out.getvalue()


@pytest.fixture
def report() -> Any:
    with LMCacheEngine({"segment": "private", "max_local_cpu_size": 0.03}) as engine:
        return report_of(engine.observed.segment())


def test_an_empty_segment(report: Any) -> None:
    text = shown(report)
    assert "none yet" in text
    assert "first token" not in text
    assert "- of 0 tokens in 0 look-ups" in text
    assert "goes with its last process" in text


def test_trouble_is_told_with_its_reasons(report: Any) -> None:
    report["dropped_stores"] |= {"total": 12_005, "no_space": 12_000, "lock_timeout": 5}
    report["load_failures"] |= {"total": 1, "gone": 1}
    report["avg_ttft_reduction"] = 7.25
    report["kept"] = True
    text = shown(report)
    assert "12.0 k chunks: 12.0 k no space, 5 lock timeout" in text
    assert "1 chunks: 1 gone" in text
    assert "7.2 times sooner" in text
    assert "kept until `lmcache clear` or `gc`" in text


def test_names_are_not_markup(report: Any) -> None:
    report["namespaces"] = [
        {
            "model": "[red]m[/]",
            "entries": 20_000,
            "bytes": 3_000_000_000,
            "lookup_tokens": 10,
            "hit_tokens": 5,
            "made_of": {
                "chunk_tokens": 256,
                "world_size": 4,
                "lora": "[x]",
                "salt_sha256": "0a1b2c3d",
                "geometry": None,
            },
        }
    ]
    report["processes"][0] |= {"role": "[b]", "alive": False}
    text = shown(report)
    for part in ("[red]m[/]", "LoRA [x]", "4 ranks", "salt 0a1b2c3d", "[b]", "gone", "50.0 %"):
        assert part in text
