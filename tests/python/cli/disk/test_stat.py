# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk stat`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from disk_cache import make_cache, open_volume
from kv_arrays import kv_of

from lmcache import LMCacheEngine

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


def test_a_cache_that_nobody_uses(run: Any, tmp_path: Path) -> None:
    make_cache(tmp_path / "cache", 10)
    done = run("disk", "stat", str(tmp_path / "cache"), "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["folders"] == [f"{tmp_path}/cache"]
    assert (report["chunks"], report["used_bytes"]) == (10, 2_000_000)
    assert (report["processes"], report["limit_bytes"]) == (0, None)
    (model,) = report["models"]
    assert (model["model"], model["chunks"], model["bytes"]) == ("", 10, 2_000_000)
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert (set(report) | set(model)) - documented == set()
    out = run("disk", "stat", f"file://{tmp_path}/cache").out
    assert "nobody at this moment" in out
    assert "not noted" in out


def test_of_an_engine(run: Any, tmp_path: Path, segment: str) -> None:
    folder = tmp_path / "cache"
    settings = {
        "segment": segment,
        "max_local_cpu_size": 0.03,
        "chunk_size": 16,
        "local_disk": str(folder),
        "max_local_disk_size": 0.05,
    }
    with LMCacheEngine(settings, model="some/model") as engine:
        engine.store(range(100), kv_of(range(100)))
        assert engine._native.drain(10_000)
        report = json.loads(run("disk", "stat", str(folder), "--json").out)
        assert (report["processes"], report["limit_bytes"]) == (1, 50_000_000)
        (model,) = report["models"]
        assert (model["model"], model["chunks"]) == ("some/model", 7)
        assert model["made_of"]["chunk_tokens"] == 16
        out = run("disk", "stat", str(folder)).out
        assert "1 process(es)" in out
        assert "some/model  float32, chunks of 16 tokens" in out


def test_an_empty_one(run: Any, tmp_path: Path) -> None:
    volume = open_volume(tmp_path / "a", tmp_path / "b")
    out = run("disk", "stat", f"{tmp_path}/a,{tmp_path}/b").out
    assert "none yet" in out
    assert "not measured yet" in out
    del volume


def test_none(run: Any, tmp_path: Path) -> None:
    done = run("disk", "stat", str(tmp_path))
    assert done.status == 2
    assert done.err == f"error: disk cache: there is no disk cache in {tmp_path}\n"
