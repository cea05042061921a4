# SPDX-License-Identifier: Apache-2.0
"""The disk tier in `lmcache status`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from kv_arrays import kv_of
from rich.console import Console

from lmcache import LMCacheEngine
from lmcache.cli.status.disk import NOT_IN_USE, disk_lines, disk_report
from lmcache.cli.status.report import report_of
from lmcache.cli.status.tables import render

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


@pytest.fixture
def engine(tmp_path: Path, segment: str) -> Any:
    settings = {
        "segment": segment,
        "max_local_cpu_size": 0.03,
        "chunk_size": 16,
        "local_disk": f"file://{tmp_path}/disk",
        "max_local_disk_size": 0.05,
    }
    with LMCacheEngine(settings, model="m") as opened:
        yield opened


def test_what_an_engine_wrote(run: Any, engine: Any, segment: str, tmp_path: Path) -> None:
    engine.store(range(100), kv_of(range(100)))
    assert engine._native.drain(10_000)
    done = run("status", "--segment", segment, "--json")
    disk = json.loads(done.out)["disk"]
    assert disk["folders"] == [f"{tmp_path}/disk"]
    assert disk["io_engine"] in ("io_uring", "threads")
    assert disk["chunks"] == disk["written"]["chunks"] == 7
    assert 0 < disk["used_bytes"] <= disk["file_bytes"] <= disk["limit_bytes"] == 50_000_000
    assert disk["processes"] == 1
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(disk) - documented == set()
    out = run("status", "--segment", segment).out
    assert f"{tmp_path}/disk by " in out
    assert re.search(r"on disk +7 chunks, .* of 50\.0 MB", out)
    assert re.search(r"written +7 chunks", out)
    assert "not written" not in out


def test_trouble_is_told(engine: Any) -> None:
    status = engine.observed.segment()
    status["total"] |= {
        "disk_dropped_writes": 3,
        "disk_corrupt_chunks": 2,
        "disk_read_errors": 1,
        "loads_declined": 12_000,
        "loads_abandoned": 4,
    }
    status["disk"]["damaged_records"] = 5
    lines = "\n".join(text for _, text in disk_lines(disk_report(status) or {}))
    for part in (
        "3 chunks: no room",
        "2 chunks were not what was written",
        "1 errors of the device while reading",
        "12.0 k prompts were computed: loading was not worth it",
        "4 prompts stopped waiting",
        "5 records lost",
    ):
        assert part in lines
    status["disk"]["unreadable"] = "there is no segment [x]"
    out = io.StringIO()
    Console(file=out, width=200).print(render(report_of(status)))
    assert "there is no segment [x]" in out.getvalue()


def test_one_that_nobody_uses_any_more(run: Any, tmp_path: Path, segment: str) -> None:
    settings = {
        "segment": segment,
        "max_local_cpu_size": 0.03,
        "chunk_size": 16,
        "local_disk": f"file://{tmp_path}/disk",
        "max_local_disk_size": 0.05,
    }
    with LMCacheEngine(settings, model="m") as opened:
        opened.store(range(32), kv_of(range(32)))
    disk = json.loads(run("status", "--segment", settings["segment"], "--json").out)["disk"]
    assert disk["unreadable"] == NOT_IN_USE
    out = run("status", "--segment", settings["segment"]).out
    assert re.search(r"disk +no process uses it now", out)
    assert "cannot open" not in out


def test_nothing_without_a_disk_tier() -> None:
    with LMCacheEngine({"segment": "private", "max_local_cpu_size": 0.03}) as engine:
        status = engine.observed.segment()
    assert disk_report(status) is None
    out = io.StringIO()
    Console(file=out, width=200).print(render(report_of(status)))
    assert "disk" not in out.getvalue()
