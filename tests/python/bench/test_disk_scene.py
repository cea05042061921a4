# SPDX-License-Identifier: Apache-2.0
"""The volume that is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lmcache.bench.disk_raw import RawLoad
from lmcache.bench.disk_scene import DiskScene, WorkFolder, check_room, shared_memory, slot_bytes
from lmcache.errors import LMCacheError, OutOfMemoryError

MIB = 1 << 20
SLOT = MIB + 4096


def test_a_slot_is_header_and_payload_in_whole_pages() -> None:
    assert [slot_bytes(size) for size in (1, 3840, 3841, MIB)] == [4096, 4096, 8192, SLOT]


def test_chunks_come_back_and_slots_are_used_again(tmp_path: Path) -> None:
    load = RawLoad(tmp_path / "raw", 8, SLOT, "threads", 32 * MIB)
    with DiskScene(tmp_path / "volume", load, MIB) as scene:
        scene.write()
        files = scene.volume.status()["file_bytes"]
        before = scene.memory[:]
        scene.memory[:] = bytes(len(before))
        order = [3, 2, 1, 0, 7, 6, 5, 4]
        assert scene.read(order).seconds > 0
        assert scene.memory[256 : SLOT // 2] == before[3 * SLOT + 256 : 3 * SLOT + SLOT // 2]
        scene.forget()
        with pytest.raises(LMCacheError, match="8 of 8 chunks"):
            scene.read(order)
        scene.write()
        assert scene.volume.status()["file_bytes"] == files


def test_memory_is_random() -> None:
    memory = shared_memory(20 * MIB)
    assert len({memory[at : at + 4096] for at in range(0, 20 * MIB, 4096)}) == 20 * 256


def test_room(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(OutOfMemoryError, match=f"{tmp_path}: 1000000.0 GB are needed"):
        check_room(tmp_path, 10**15)


def test_what_a_killed_one_left_goes_with_the_next(tmp_path: Path) -> None:
    old = time.time() - 3600
    for name in ("lmcache-bench-dead", "lmcache-bench-young", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    for name in ("lmcache-bench-dead", "mine"):
        os.utime(tmp_path / name, (old, old))
    with WorkFolder(tmp_path) as running:
        os.utime(running, (old, old))
        with WorkFolder(tmp_path):
            assert running.is_dir(), "somebody uses it"
    assert {path.name for path in tmp_path.iterdir()} == {"lmcache-bench-young", "mine"}


def test_the_folder_goes_whatever_happens(tmp_path: Path) -> None:
    def interrupted() -> None:
        with WorkFolder(tmp_path) as folder:
            (folder / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
