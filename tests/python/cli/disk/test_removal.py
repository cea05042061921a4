# SPDX-License-Identifier: Apache-2.0
"""Which files go, and when none does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disk_cache import make_cache, open_volume

from lmcache.cli.disk.removal import holds_volume, remove_files
from lmcache.errors import InvalidArgumentError

OTHERS = ["slab-", "slab-x", "slab-12345", "index2", "order.old", "my index"]


def test_only_our_names(tmp_path: Path) -> None:
    make_cache(tmp_path, 1)
    for name in OTHERS:
        (tmp_path / name).touch()
    (tmp_path / "slab-7").mkdir()
    (tmp_path / "slab-8").symlink_to(tmp_path / "index2")
    for name in ("order.new", "models", "models.new"):
        (tmp_path / name).touch()
    assert holds_volume(str(tmp_path))
    assert remove_files([str(tmp_path)])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*OTHERS, "slab-7", "slab-8"}
    assert not holds_volume(str(tmp_path))


def test_not_while_it_is_used(tmp_path: Path) -> None:
    volume = open_volume(tmp_path / "a", tmp_path / "b")
    before = sorted(tmp_path.rglob("*"))
    assert not remove_files([str(tmp_path / "a"), str(tmp_path / "b")])
    assert not remove_files([str(tmp_path / "b")])
    assert sorted(tmp_path.rglob("*")) == before
    del volume
    assert remove_files([str(tmp_path / "a"), str(tmp_path / "b")])


def test_not_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(tmp_path, 1)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(InvalidArgumentError, match=f"disk cache of user {os.getuid()}: it stays"):
        remove_files([str(tmp_path)])
    assert holds_volume(str(tmp_path))


def test_a_folder_without_one(tmp_path: Path) -> None:
    (tmp_path / "index").touch()
    assert remove_files([str(tmp_path), str(tmp_path / "missing")])
    assert (tmp_path / "index").exists()
