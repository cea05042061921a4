# SPDX-License-Identifier: Apache-2.0
"""The remote tier in `lmcache status`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from kv_arrays import empty_kv, kv_of
from redis_server import connected, until
from rich.console import Console

from lmcache import LMCacheEngine
from lmcache.cli.status.remote import remote_lines, remote_report
from lmcache.cli.status.report import report_of
from lmcache.cli.status.tables import render

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"
SETTINGS = {
    "max_local_cpu_size": 0.03,
    "chunk_size": 16,
    "load_policy": "always",
    "remote_lookup_timeout_ms": 5000,
}


@pytest.fixture
def engine(redis_server: Any, segment: str) -> Any:
    settings = {**SETTINGS, "segment": segment, "remote_url": redis_server.url}
    with LMCacheEngine(settings, model="m") as opened:
        until(lambda: connected(opened))
        yield opened


def test_what_an_engine_sent_and_fetched(run: Any, engine: Any, segment: str) -> None:
    engine.store(range(100), kv_of(range(100)))
    engine.flush()
    engine.clear()
    assert engine.retrieve(range(100), empty_kv(100)) == 100
    remote = json.loads(run("status", "--segment", segment, "--json").out)["remote"]
    assert (remote["connected"], remote["processes"], remote["failures"]) == (1, 1, 0)
    assert remote["written"]["chunks"] == remote["read"]["chunks"] == 7
    assert remote["written"]["bytes"] == remote["read"]["bytes"] > 7 * 256
    assert remote["hit_tokens"] == 100
    assert remote["dropped_writes"] == remote["corrupt_chunks"] == 0
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(remote) - documented == set()
    out = run("status", "--segment", segment).out
    assert re.search(r"remote +1 of 1 process\(es\) connected", out)
    assert re.search(r"sent +7 chunks", out)
    assert re.search(r"fetched +7 chunks", out)
    assert "not sent" not in out


def test_a_server_that_is_gone(run: Any, engine: Any, redis_server: Any, segment: str) -> None:
    redis_server.stop()
    engine.store(range(100), kv_of(range(100)))
    engine.flush()
    until(lambda: not connected(engine))
    out = run("status", "--segment", segment).out
    assert "0 of 1 process(es) connected; the others go on without it until it answers" in " ".join(
        out.split()
    )
    assert re.search(r"failures +\d+ times the store did not answer", out)
    assert "Connection refused" in " ".join(out.split()), "what the last of them was"
    report = json.loads(run("status", "--segment", segment, "--json").out)["remote"]
    assert "Connection refused" in report["last_error"]


def test_trouble_is_told(engine: Any) -> None:
    status = engine.observed.segment()
    status["total"] |= {
        "remote_dropped_writes": 12_000,
        "remote_write_errors": 3,
        "remote_read_errors": 2,
        "remote_corrupt_chunks": 1,
        "remote_lookup_chunks": 200,
        "remote_found_chunks": 50,
    }
    lines = "\n".join(text for _, text in remote_lines(remote_report(status) or {}))
    for part in (
        "12.0 k chunks: more than write_behind_bytes, or no store",
        "3 chunks could not be sent",
        "2 chunks could not be fetched",
        "1 chunks were not what was asked for",
        "200 chunks, 25.0 % were there",
    ):
        assert part in lines


def test_what_was_sent_is_still_told_when_all_have_left(engine: Any) -> None:
    status = engine.observed.segment()
    status["processes"] = []
    assert remote_report(status) is None
    status["total"]["remote_written_chunks"] = 5
    report = remote_report(status) or {}
    assert (report["processes"], report["written"]["chunks"]) == (0, 5)
    assert remote_lines(report)


def test_nothing_without_a_remote_tier() -> None:
    with LMCacheEngine({"segment": "private", "max_local_cpu_size": 0.03}) as engine:
        status = engine.observed.segment()
    assert remote_report(status) is None
    out = io.StringIO()
    Console(file=out, width=200).print(render(report_of(status)))
    assert "remote" not in out.getvalue()
