# SPDX-License-Identifier: Apache-2.0
"""Room for the segment, locking it, huge pages."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from lmcache.cli.doctor import memory
from lmcache.config import SegmentPlace

HUGE = 1 << 60


def test_a_private_segment_needs_no_shared_memory() -> None:
    assert memory.check_shared_memory(SegmentPlace("private"), HUGE).status == "ok"


def test_room_for_the_segment(tmp_path: Path) -> None:
    place = SegmentPlace("x", str(tmp_path), keep=True)
    assert memory.check_shared_memory(place, 1).status == "ok"
    check = memory.check_shared_memory(place, HUGE)
    assert check.status == "fail"
    assert str(tmp_path) in check.found
    assert f"size={HUGE >> 30}G" in check.advice
    assert "max_local_cpu_size" in check.advice


def test_what_the_segment_already_holds_counts(tmp_path: Path) -> None:
    place = SegmentPlace("x", str(tmp_path), keep=True)
    size = os.statvfs(tmp_path)
    (tmp_path / f"lmcache-{os.getuid()}-x").write_bytes(b"1" * (8 << 20))
    # More than is free without the file, by less than the file.
    wanted_bytes = size.f_bavail * size.f_frsize - (4 << 20)
    if os.statvfs(tmp_path).f_bavail * size.f_frsize >= wanted_bytes:
        pytest.skip("another process freed space meanwhile")
    assert memory.check_shared_memory(place, wanted_bytes).status == "ok"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    check = memory.check_shared_memory(SegmentPlace("x", str(tmp_path / "no"), keep=True), 1)
    assert (check.status, "does not exist" in check.found) == ("fail", True)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert memory.check_shared_memory(SegmentPlace("x", str(tmp_path)), 1).status == "fail"


def test_memory() -> None:
    assert memory.check_memory(5, 5).status == "ok"
    assert memory.check_memory(6, 5).status == "warn"


@pytest.mark.parametrize(
    ("limit", "cuda", "status"),
    [
        (resource.RLIM_INFINITY, True, "ok"),
        (100, True, "ok"),
        (99, True, "warn"),
        (99, False, "ok"),
    ],
)
def test_memlock(monkeypatch: pytest.MonkeyPatch, limit: int, cuda: bool, status: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    check = memory.check_memlock(100, cuda=cuda)
    assert check.status == status
    assert ("ulimit" in check.advice) == (status == "warn")


def _huge_pages(root: Path, free: int, mounts: str) -> str:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"HugePages_Free: {free}\nHugepagesize: 2048 kB\n")
    (root / "proc/self/mounts").write_text(mounts)
    thp = root / "sys/kernel/mm/transparent_hugepage"
    thp.mkdir(parents=True)
    (thp / "shmem_enabled").write_text("always within_size [advise] never\n")
    return str(root)


MOUNTS = (
    "tmpfs /dev/shm tmpfs rw 0 0\nnone /dev/hugepages hugetlbfs rw 0 0\n/dev/sda / ext4 rw 0 0\n"
)


@pytest.mark.parametrize(
    ("directory", "free", "status"),
    [
        ("/dev/shm", 0, "ok"),
        ("/dev/hugepages", 1, "fail"),
        ("/dev/hugepages/sub", 1, "fail"),
        ("/dev/hugepages", 2, "ok"),
    ],
)
def test_huge_pages(tmp_path: Path, directory: str, free: int, status: str) -> None:
    root = _huge_pages(tmp_path, free, MOUNTS)
    check = memory.check_huge_pages(SegmentPlace("x", directory), 4 << 20, root)
    assert check.status == status
    if status == "fail":
        assert "vm.nr_hugepages=2" in check.advice
    else:
        assert "advise" in check.found
