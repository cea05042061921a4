# SPDX-License-Identifier: Apache-2.0
"""`lmcache status`: what people and programs are told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cache_process import CacheProcess

from lmcache.cli.status import command

PROMPT = list(range(100))


def test_a_segment_in_use(run: Any, segment: str) -> None:
    with CacheProcess(segment) as process:
        process.store(PROMPT)
        process.retrieve(PROMPT)
        process.lookup([*PROMPT[:50], *range(500, 550)])
        done = run("status", "--segment", segment)
        pid = str(process.pid)
    assert done.status == 0, done.err
    assert segment_file(segment) in done.out
    assert "hit rate" in done.out
    assert "75.0 % of 200 tokens in 2 look-ups" in done.out
    assert "float32, chunks of 16 tokens" in done.out
    assert pid in done.out
    assert "kept until" in done.out
    assert "not stored" not in done.out


def test_json_is_complete(run: Any, segment: str) -> None:
    with CacheProcess(segment) as process:
        process.store(PROMPT)
        process.record(2.0, [1000, 900, 0.1])
        done = run("status", "--segment", segment, "--json")
        report = json.loads(done.out)
        assert report["processes"][0]["pid"] == process.pid
    assert done.status == 0
    assert report["exists"] is True
    assert report["path"] == segment_file(segment)
    assert report["entries"] == 7
    assert report["avg_ttft_reduction"] == pytest.approx(6.67, rel=0.01)
    assert [space["model"] for space in report["namespaces"]] == ["m"]


def test_a_segment_after_its_last_process(run: Any, segment: str) -> None:
    with CacheProcess(segment) as process:
        process.store(PROMPT)
        process.leave()
    report = json.loads(run("status", "--segment", segment, "--json").out)
    assert (report["entries"], report["processes"]) == (7, [])
    assert report["stored"]["tokens"] == 100
    with CacheProcess(segment) as process:
        process.kill()
    done = run("status", "--segment", segment)
    assert "gone" in done.out


def test_no_segment(run: Any, segment: str) -> None:
    other = str(Path(segment).with_name("other"))
    with CacheProcess(other):
        done = run("status", "--segment", segment)
        assert done.status == 1
        assert f"There is no segment {segment_file(segment)}" in done.out
        assert "LMCacheEngine()" in done.out
        assert f"lmcache status --segment {segment_file(other)}" in done.out
        assert run("status", "--segment", segment_file(other)).status == 0
        done = run("status", "--segment", segment, "--json")
    assert done.status == 1
    report = json.loads(done.out)
    assert report["exists"] is False
    assert segment_file(other) in report["others"]


def test_what_is_no_segment(run: Any, segment: str) -> None:
    Path(segment_file(segment)).touch(0o600)
    done = run("status", "--segment", segment)
    assert done.status == 2
    assert "is not a segment of ours" in done.err


@pytest.mark.parametrize("json_wanted", [False, True])
def test_watching_ends_with_the_segment(
    run: Any, segment: str, monkeypatch: pytest.MonkeyPatch, json_wanted: bool
) -> None:
    rounds = 0

    def pass_time(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            Path(segment_file(segment)).unlink()

    monkeypatch.setattr(command.time, "sleep", pass_time)
    with CacheProcess(segment):
        done = run("status", "--segment", segment, "--watch", *["--json"] * json_wanted)
    assert done.status == 0
    assert rounds == 3
    if json_wanted:
        assert len([json.loads(line) for line in done.out.splitlines()]) == 3


def test_watching_ends_with_ctrl_c(run: Any, segment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupt)
    with CacheProcess(segment):
        assert run("status", "--segment", segment, "--watch").status == 0


def segment_file(segment: str) -> str:
    folder, name = os.path.split(segment)
    return f"{folder}/lmcache-{os.geteuid()}-{name}"
