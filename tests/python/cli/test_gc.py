# SPDX-License-Identifier: Apache-2.0
"""`lmcache gc` removes what nobody uses, and keeps what it cannot judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cache_process import CacheProcess
from disk_cache import make_cache, open_volume

from lmcache.cli import node

PROMPT = list(range(100))


@pytest.fixture
def folder(run: Any, segment: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder that is looked into during the test: others belong to real caches."""
    place = Path(segment).parent
    monkeypatch.setattr(node, "SHARED_MEMORY_DIRECTORY", str(place))
    monkeypatch.setenv("LMCACHE_SEGMENT", segment)
    return place


def names(folder: Path) -> set[str]:
    return {path.name.split("-", 2)[2] for path in folder.iterdir()}


def test_only_what_nobody_uses(run: Any, folder: Path) -> None:
    with CacheProcess(f"{folder}/used") as user:
        user.store(PROMPT)
        for name in ("left", "killed"):
            with CacheProcess(f"{folder}/{name}") as process:
                process.store(PROMPT)
                process.leave() if name == "left" else process.kill()
        done = run("gc", "--dry-run")
        assert done.status == 0
        assert names(folder) == {"used", "left", "killed"}
        assert done.out.count("would be removed") == 2
        assert "would free" in done.out
        done = run("gc", "--json")
        outcome = {entry["name"]: entry for entry in json.loads(done.out)["segments"]}
        assert {name for name, entry in outcome.items() if entry["removed"]} == {"left", "killed"}
        assert outcome["used"]["why"] == "kept: used by 1 process(es)"
        assert names(folder) == {"used"}
        assert user.retrieve(PROMPT) == [100, True]
    assert "freed" in run("gc").out
    assert names(folder) == set()
    assert "there are no segments" in run("gc").out


def test_what_cannot_be_read_needs_force(run: Any, folder: Path) -> None:
    file = folder / f"lmcache-{os.geteuid()}-old"
    file.write_bytes(b"from another version" * 1000)
    file.chmod(0o600)
    done = run("gc")
    assert "kept, --force removes it:" in done.out
    assert "is not a segment of ours" in done.out
    assert file.exists()
    done = run("gc", "--force")
    assert "removed" in done.out
    assert not file.exists()


def test_files_of_others_stay(run: Any, folder: Path) -> None:
    other = folder / "lmcache-99999-x"
    other.touch()
    (folder / "something").touch()
    assert "there are no segments" in run("gc", "--force").out
    assert other.exists()


def test_the_configured_folder_is_looked_into(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CacheProcess(f"{tmp_path}/mine") as process:
        process.kill()
    monkeypatch.setenv("LMCACHE_SEGMENT", f"{tmp_path}/mine")
    assert "removed" in run("gc").out
    assert list(tmp_path.iterdir()) == []


def test_directories_of_disk_caches(run: Any, folder: Path, tmp_path: Path) -> None:
    """A process that is killed leaves one behind; the disk cache is whole without it."""
    keys = make_cache(tmp_path, 10)
    program = (
        "import sys; from lmcache import _native; "
        "volume = _native.DiskVolume.open([sys.argv[1]], print, memory_folder=sys.argv[2]); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (directory,) = folder.glob("lmcache-disk-*")
        (outcome,) = json.loads(run("gc", "--json").out)["disk_directories"]
        assert (outcome["path"], outcome["removed"]) == (str(directory), False)
        assert outcome["why"] == "kept: used by 1 process(es)"
        assert outcome["folders"] == [str(tmp_path)]
        process.kill()
    assert "would be removed" in run("gc", "--dry-run").out
    assert directory.exists()
    assert f"{directory} (" in run("gc").out
    assert not directory.exists()
    assert open_volume(tmp_path).find(keys) == 10
    directory.write_bytes(b"of another version" * 300)
    directory.chmod(0o600)
    assert "kept, --force removes it:" in run("gc").out
    assert "removed" in run("gc", "--force").out
    assert list(folder.iterdir()) == []
