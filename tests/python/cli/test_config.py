# SPDX-License-Identifier: Apache-2.0
"""`lmcache config show|schema|check`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.schema import json_schema

Run = Callable[..., Any]


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "lmcache.yaml"
    path.write_text("chunk_size: 128\nremote_url: lm://me:secret@host\nchunksize: 3\n")
    return path


def test_show(run: Run, yaml_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_CACHE_POLICY", "LRU")
    done = run("config", "show", "--file", str(yaml_file))
    assert done.status == 0
    rows = {line.split()[0]: line.split(maxsplit=2) for line in done.out.splitlines() if line}
    assert set(LMCacheConfig.model_fields) <= set(rows)
    assert rows["chunk_size"][1] == "128"
    assert rows["chunk_size"][2].startswith(str(yaml_file)[:30])
    assert "LMCACHE_CACHE_POLICY" in rows["eviction_policy"][2]
    assert [cell.strip() for cell in rows["segment"]] == ["segment", "auto", "default"]
    assert "secret" not in done.out + done.err
    assert 'did you mean "chunk_size"?' in done.err
    assert "this kind of remote store is not in this version" in done.err


def test_show_json(run: Run, yaml_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_CONFIG_FILE", str(yaml_file))
    done = run("config", "show", "--json")
    told = json.loads(done.out)
    assert told["settings"]["chunk_size"] == {
        "value": 128,
        "source": f"{yaml_file}:1",
        "kind": "file",
    }
    assert told["settings"]["remote_url"]["value"] == "lm://me:***@host"
    assert set(told["settings"]) == set(LMCacheConfig.model_fields)
    assert len(told["warnings"]) == 1
    assert [entry["setting"] for entry in told["unavailable"]] == ["remote_url"]


def test_schema(run: Run) -> None:
    assert json.loads(run("config", "schema").out) == json_schema()


def test_check_a_right_file(run: Run, yaml_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_CHUNK_SIZE", "not looked at")
    done = run("config", "check", str(yaml_file))
    assert done.status == 0
    assert done.out == f"{yaml_file}: right, 1 warning\n"
    assert "chunksize" in done.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("chunk_size: -1\n", "chunk_size = -1"),
        ("eviction_policy: lru\ncache_policy: fifo\n", "disagree"),
        ("[", "not valid YAML"),
        ("- 1\n", "not a list of settings"),
    ],
)
def test_check_a_wrong_file(run: Run, yaml_file: Path, content: str, told: str) -> None:
    yaml_file.write_text(content)
    done = run("config", "check", str(yaml_file))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert told in done.err
    assert f"{yaml_file}:1" in done.err


def test_check_a_missing_file(run: Run, tmp_path: Path) -> None:
    done = run("config", "check", str(tmp_path / "no.yaml"))
    assert (done.status, done.err) == (
        2,
        f"error: cannot read {tmp_path / 'no.yaml'}: No such file or directory\n",
    )
