# SPDX-License-Identifier: Apache-2.0
"""A disk cache to measure: its memory, its folder, and moving everything once."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import numpy as np

from lmcache import _native
from lmcache.bench.disk_raw import Cost, RawLoad, Stopwatch
from lmcache.errors import LMCacheError, OutOfMemoryError

PAGE_BYTES = 4096
HEADER_BYTES = 256
# Of the volume, so that slabs are as large as those of a cache of some size: a 256th of it. Only
# what is written takes room.
LIMIT_BYTES = 32 << 30
# Of requests in flight, as engines do.
DEPTH_BYTES = 32 << 20
# Beside the chunks: the index, and the rest of the last slab.
_SPARE_BYTES = LIMIT_BYTES // 256 + LIMIT_BYTES // 512 + (64 << 20)
_TILE_BYTES = 16 << 20
_FOLDER_PREFIX = "lmcache-bench-"
_JUST_MADE_S = 60.0


def slot_bytes(payload_bytes: int) -> int:
    """Return the room of a chunk on disk: the header, the payload, whole pages."""
    return -(-(HEADER_BYTES + payload_bytes) // PAGE_BYTES) * PAGE_BYTES


def needed_bytes(moved_bytes: int) -> int:
    """Return the room on disk that measuring takes: the chunks twice, ours and raw."""
    return 2 * moved_bytes + _SPARE_BYTES


def check_room(folder: Path, size_bytes: int) -> None:
    """Refuse to begin where the disk would be full halfway. Raises `OutOfMemoryError`."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if size_bytes > free:
        raise OutOfMemoryError(
            f"{folder}: {size_bytes / 1e9:.1f} GB are needed for the measurement, "
            f"{free / 1e9:.1f} GB are free"
        )


class WorkFolder:
    """A folder of ours below another one; it goes with what is in it.

    It is locked while it is used. What a measurement left that was killed goes with the next one.
    """

    def __init__(self, parent: Path) -> None:
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))
        self._lock = _locked(self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders below `parent` that measurements left which are no more."""
    for folder in parent.glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            state = folder.lstat()
            ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()
            # One that was just made is not locked yet.
            if not ours or time.time() - state.st_mtime < _JUST_MADE_S:
                continue
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """Return what holds the lock of a folder; None: somebody else does, or there are no locks."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


class DiskScene:
    """`chunks` chunks in memory, and a volume that holds them. Each call moves all of them."""

    def __init__(self, folder: Path, load: RawLoad, payload_bytes: int) -> None:
        self._load = load
        self._payload_bytes = payload_bytes
        self.memory = shared_memory(load.size_bytes)
        self._keys: list[bytes] = []
        self._volume: _native.DiskVolume | None = _native.DiskVolume.open(
            [str(folder)],
            lambda _level, _text: None,
            limit_bytes=max(LIMIT_BYTES, 2 * load.size_bytes),
            io=load.engine,
            depth_bytes=load.depth_bytes,
            existing_only=False,
        )

    @property
    def volume(self) -> _native.DiskVolume:
        """The volume, while the scene is there."""
        assert self._volume is not None
        return self._volume

    def forget(self) -> None:
        """Make all slots free, so that the next chunks go where some were before."""
        self.volume.clear()

    def write(self) -> Cost:
        """Write every chunk under a new key: sums, room and index included."""
        chunks = self._load.chunks
        keys = os.urandom(32 * chunks)
        self._keys = [keys[at : at + 32] for at in range(0, len(keys), 32)]
        with Stopwatch() as watch:
            written = self.volume.write(
                keys, self.memory, self._load.slot_bytes, self._payload_bytes
            )
        return _all(watch.cost, written, chunks)

    def read(self, order: list[int]) -> Cost:
        """Read and check every chunk, asked for in this order."""
        keys = b"".join(self._keys[at] for at in order)
        with Stopwatch() as watch:
            arrived = self.volume.read(keys, self.memory, self._load.slot_bytes)
        return _all(watch.cost, arrived, self._load.chunks)

    def __enter__(self) -> DiskScene:
        return self

    def __exit__(self, *_: object) -> None:
        self._volume = None  # closes it
        self.memory.close()


def shared_memory(size_bytes: int) -> mmap.mmap:
    """Return memory of the kind that segments are made of, full of random bytes.

    Random, so that no disk can make less of them. The kind matters: scattered pages of 4 KiB make
    more, smaller requests than huge ones.
    """
    file = os.memfd_create("lmcache-bench")
    try:
        os.ftruncate(file, size_bytes)
        memory = mmap.mmap(file, size_bytes)
    finally:
        os.close(file)
    random = np.random.default_rng()
    for at in range(0, len(memory), _TILE_BYTES):
        memory[at : at + _TILE_BYTES] = random.bytes(min(_TILE_BYTES, len(memory) - at))
    return memory


def touch(memory: mmap.mmap) -> None:
    """Look at every page of the memory, as whoever stores chunks has just done.

    What the processor did not touch for a moment a virtual machine may have to find again, 2 MiB in
    0.3 ms and more, also when a disk has moved it meanwhile: summing 1 GiB took 80 ms longer then,
    most of it before the first chunks were on their way.
    """
    _ = memory[::PAGE_BYTES]  # a copy: a view in some traceback would keep the memory open


def _all(cost: Cost, moved: int, chunks: int) -> Cost:
    if moved != chunks:
        raise LMCacheError(f"{chunks - moved} of {chunks} chunks of the measurement are missing")
    return cost
