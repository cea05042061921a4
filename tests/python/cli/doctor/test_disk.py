# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of the disk tier."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from disk_cache import damage_slabs, make_cache, open_volume

from lmcache import _native
from lmcache.cli.doctor import disk
from lmcache.cli.doctor.disk import (
    check_disk,
    check_engine,
    check_folder,
    check_room,
    check_volume,
    file_system,
    takes_direct_io,
)
from lmcache.config import LMCacheConfig


def mounted(root: Path, *lines: str) -> str:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mounts").write_text("".join(f"{line} rw 0 0\n" for line in lines))
    return str(root)


def test_nothing_configured() -> None:
    (check,) = check_disk(LMCacheConfig())
    assert (check.status, "not used" in check.found) == ("ok", True)


def test_a_folder_that_will_be_made(tmp_path: Path) -> None:
    config = LMCacheConfig(
        enable_disk_cache=True, disk_cache_path=f"{tmp_path}/a/b", max_local_disk_size=0.1
    )
    checks = {check.name: check for check in check_disk(config)}
    assert "not made yet" in checks["disk cache"].found
    assert "max_local_disk_size is 0.1 GB" in checks["disk room"].found
    assert checks["disk I/O"].status in ("ok", "warn")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("ext4", "ok", "with O_DIRECT"),
        ("nfs4", "warn", "a network file system"),
        ("fuse.sshfs", "warn", "a network file system"),
        ("overlay", "warn", "on overlay"),
        ("tmpfs", "warn", "that is memory"),
    ],
)
def test_file_systems(tmp_path: Path, kind: str, status: str, text: str) -> None:
    if not takes_direct_io(tmp_path):
        pytest.skip("the folder of the test does not take O_DIRECT")
    root = mounted(tmp_path / "root", f"x / {kind}", "y /proc proc")
    check = check_folder(tmp_path, root)
    assert (check.status, text in check.found) == (status, True)
    assert file_system(Path("/proc/1"), root) == "proc"


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "is no folder" in check_folder(tmp_path / "file").found
    make_cache(tmp_path / "cache", 1)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    check = check_folder(tmp_path / "cache")
    assert check.status == "fail"
    assert f"a disk cache of user {os.getuid()}" in check.found


def test_room(tmp_path: Path) -> None:
    assert "it takes a tenth" in check_room([tmp_path], None).found
    assert check_room([tmp_path], 0.001).status == "ok"
    check = check_room([tmp_path, tmp_path / "new"], 1e9)
    assert check.status == "warn"
    assert "max_local_disk_size below" in check.advice


def test_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert list(check_volume([folder])) == []
    make_cache(folder, 10)
    (check,) = check_volume([folder])
    assert (check.status, check.found) == ("ok", "10 chunks, 2.0 MB")
    damage_slabs(folder, 5000)  # only a scrub looks at payload
    assert next(check_volume([folder])).status == "ok"
    with (folder / "index").open("r+b") as index:
        index.seek(8)
        index.write(b"x")
    (check,) = check_volume([folder])
    assert (check.status, "1 records" in check.found) == ("warn", True)


def test_a_cache_that_engines_refuse(tmp_path: Path) -> None:
    volume = open_volume(tmp_path / "a", tmp_path / "b")
    del volume
    (check,) = check_volume([tmp_path / "a"])
    assert check.status == "fail"
    assert "give all of them" in check.found
    shutil.rmtree(tmp_path / "b")


def test_the_way_of_io(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(setting: str, refusal: str) -> Any:
        monkeypatch.setattr(_native, "uring_refusal", lambda: refusal)
        (check,) = check_engine(setting)
        return check.status, check.found

    assert told("auto", "") == ("ok", "io_uring")
    assert told("threads", "forbidden") == ("ok", "threads")
    assert told("auto", "forbidden") == ("warn", "threads: forbidden")
    assert told("io_uring", "forbidden") == ("fail", "disk_io is io_uring: forbidden")


def test_without_the_native_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_name: str) -> None:
        raise ImportError

    make_cache(tmp_path / "cache", 1)
    monkeypatch.setattr(disk.importlib, "import_module", missing)
    assert list(check_engine("auto")) == list(check_volume([tmp_path / "cache"])) == []
