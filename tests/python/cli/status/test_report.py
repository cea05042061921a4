# SPDX-License-Identifier: Apache-2.0
"""The keys of `lmcache status --json` are those of docs/cli.md, and add up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kv_arrays import kv_of

from lmcache import LMCacheEngine
from lmcache.cli.status.report import report_of, segment_report
from lmcache.errors import UnavailableError

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


@pytest.fixture
def status() -> Any:
    settings = {"segment": "private", "max_local_cpu_size": 0.03, "chunk_size": 16}
    with LMCacheEngine(settings, model="m", salt="tenant") as engine:
        engine.store(range(100), kv_of(range(100)))
        engine.lookup([*range(50), 7, 7])
        yield engine.observed.segment()


def test_every_key_is_documented(status: Any) -> None:
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    report = report_of(status)
    keys = set(report)
    assert report["disk"] is None
    for part in (report["namespaces"][0], report["processes"][0], report["lookup_us"]):
        keys |= set(part)
    assert keys - documented == set()


def test_namespaces_and_processes(status: Any) -> None:
    report = report_of(status)
    (space,) = report["namespaces"]
    assert (space["model"], space["entries"], space["hit_tokens"]) == ("m", 7, 50)
    assert space["hit_rate"] == pytest.approx(50 / 52)
    assert space["made_of"]["geometry"]["dtype"] == "float32"
    (process,) = report["processes"]
    assert process["alive"]
    assert process["stored_bytes"] == report["stored"]["bytes"] == space["bytes"]
    assert report["lookup_us"]["count"] == 1
    assert 0 < report["lookup_us"]["p50"] <= report["lookup_us"]["p99"]


@pytest.mark.parametrize("description", ["", "{", "[1]"])
def test_a_description_that_was_cut(status: Any, description: str) -> None:
    status["namespaces"][0]["description"] = description
    assert report_of(status)["namespaces"][0]["made_of"] == {}


def test_no_segment(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        segment_report(str(tmp_path / "nothing"))
