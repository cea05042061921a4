# SPDX-License-Identifier: Apache-2.0
"""Chunks in a folder: bytes, modes, expiry, a full file system, what others left there."""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmcache.errors import InvalidArgumentError, IoError
from lmcache.remote.folder import NEVER, FolderRemote

KEY = "ab" * 32
MIB = 1 << 20


def open_folder(path) -> FolderRemote:
    return FolderRemote(f"file://{path}", user=None, password=None, timeout_s=5, connections=2)


def pieces(data: bytes) -> list[memoryview]:
    return [memoryview(data)[:256], memoryview(data)[256:]]


@pytest.fixture
def remote(tmp_path):
    return open_folder(tmp_path / "store")


def path_of(tmp_path, key=KEY):
    return tmp_path / "store" / "lmcache" / "1" / key[:2] / key


@pytest.mark.parametrize("size", [300, MIB + 1, 33 * MIB])
def test_round_trip(remote, size):
    data = random.Random(size).randbytes(size)
    assert remote.put([KEY], [pieces(data)], 0) == [True]
    assert remote.exists([KEY, "cd" * 32]) == [size, 0]
    buffer = bytearray(size + 7)
    assert remote.get_into([KEY, "cd" * 32], [memoryview(buffer), memoryview(buffer)]) == [size, 0]
    assert buffer[:size] == data
    assert buffer[size:] == bytes(7)
    assert remote.get_into([KEY], [memoryview(bytearray(size - 1))]) == [0]


def test_only_its_owner_may_read(remote, tmp_path):
    remote.put([KEY], [pieces(bytes(300))], 0)
    path = path_of(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, *path.parents[1:4]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_ttl(remote, tmp_path):
    remote.put([KEY], [pieces(bytes(300))], 60)
    assert remote.exists([KEY]) == [300]
    assert 50 < path_of(tmp_path).stat().st_mtime - time.time() <= 61
    os.utime(path_of(tmp_path), (1, time.time() - 1))
    assert remote.exists([KEY]) == [0]
    assert remote.get_into([KEY], [memoryview(bytearray(300))]) == [0]
    assert remote.remove([KEY]) == 0
    assert not path_of(tmp_path).exists()
    remote.put([KEY], [pieces(bytes(300))], 0)
    assert path_of(tmp_path).stat().st_mtime == NEVER


def test_a_damaged_file_is_told_by_its_length(remote, tmp_path):
    remote.put([KEY], [pieces(bytes(5000))], 0)
    os.truncate(path_of(tmp_path), 1234)
    os.utime(path_of(tmp_path), (NEVER, NEVER))
    assert remote.get_into([KEY], [memoryview(bytearray(5000))]) == [1234]


def test_remove_clear_and_describe_touch_what_is_ours(remote, tmp_path):
    keys = [f"{number:064x}" for number in range(300)]
    remote.put(keys, [pieces(bytes(300))] * 300, 0)
    foreign = path_of(tmp_path).parents[1] / "00" / "notes.txt"
    foreign.write_text("mine")
    use = remote.describe()
    assert (use.chunks, use.used_bytes) == (300, 90_000)
    assert use.limit_bytes > use.used_bytes
    assert remote.remove([keys[0], keys[1], KEY]) == 2
    left = foreign.parent / f".{KEY}.{'0' * 32}"
    left.write_bytes(b"x")
    os.utime(left, (1, 1))
    assert remote.clear() == 298
    assert remote.describe().chunks == 0
    assert foreign.exists()
    assert not left.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_no_failure_and_leaves_nothing(remote, tmp_path, monkeypatch, code):
    remote.put([KEY], [pieces(b"a" * 300)], 0)

    def full(file, buffers):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "writev", full)
    assert remote.put([KEY], [pieces(b"b" * 300)], 0) == [False]
    monkeypatch.undo()
    buffer = bytearray(300)
    assert remote.get_into([KEY], [memoryview(buffer)]) == [300]
    assert buffer == b"a" * 300
    assert list(path_of(tmp_path).parent.iterdir()) == [path_of(tmp_path)]


def test_a_really_full_file_system(tmp_path):
    """/dev/full stands for it: every write there fails as on a full disk."""
    remote = open_folder(tmp_path / "store")
    real = remote._create
    remote._create = lambda path: (os.close(real(path)), os.open("/dev/full", os.O_WRONLY))[1]
    assert remote.put([KEY], [pieces(bytes(300))], 0) == [False]


def test_short_writes_go_on(remote, monkeypatch):
    data, writev = random.Random(1).randbytes(5000), os.writev
    monkeypatch.setattr(os, "writev", lambda f, b: writev(f, [b[0][:100]]))
    assert remote.put([KEY], [pieces(data)], 0) == [True]
    buffer = bytearray(5000)
    assert remote.get_into([KEY], [memoryview(buffer)]) == [5000]
    assert buffer == data


def test_readers_beside_writers_see_whole_values(remote):
    def write(number: int) -> None:
        remote.put([KEY], [pieces(bytes([number]) * (300 + number * 1000))], 0)

    def read(number: int) -> None:
        buffer = bytearray(100_000)
        (count,) = remote.get_into([KEY], [memoryview(buffer)])
        assert count == 300 + buffer[0] * 1000
        assert buffer[:count] == bytes([buffer[0]]) * count

    write(1)
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit((write, read)[n % 2], n % 90 + 1) for n in range(400)]
        for job in jobs:
            job.result()


def test_a_folder_that_is_not_there_is_a_failure(tmp_path):
    remote = open_folder(tmp_path / "not mounted" / "store")
    assert remote.exists([KEY]) == [0]
    with pytest.raises(IoError, match="No such file") as caught:
        remote.ping()
    assert caught.value.os_error == errno.ENOENT
    with pytest.raises(IoError):
        remote.put([KEY], [pieces(bytes(300))], 0)
    open_folder(tmp_path / "made").ping()
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize(
    "url", ["file://host/x", "file:///", "file:///a/../b", "file:///a?x=1", "s3://b"]
)
def test_what_is_no_folder(url):
    with pytest.raises(InvalidArgumentError):
        FolderRemote(url, user=None, password=None, timeout_s=5, connections=2)
