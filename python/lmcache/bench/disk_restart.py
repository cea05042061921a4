# SPDX-License-Identifier: Apache-2.0
"""How soon a disk cache is there again: a new process, an index that is in no page cache.

Chunks of 1 KiB are written in batches, the volume is closed, its files `index` and `order` are
synced and dropped from the page cache, and a process that was started for it opens the volume and
looks for every chunk. Its own start does not count.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lmcache import _native
from lmcache.bench.disk_scene import WorkFolder, check_room, slot_bytes
from lmcache.bench.measuring_process import running
from lmcache.errors import LMCacheError

# What was promised: so many chunks are there again after so long.
MOST_RECORDS = 100_000
MOST_ATTACH_MS = 1000.0

PAYLOAD_BYTES = 1024
# The index has a record per 64 KiB of the limit; that many small chunks need that limit, and take
# 4 KiB each.
_LIMIT_BYTES_PER_RECORD = 64 << 10
_INDEX_BYTES_PER_RECORD = 128
_BATCH = 4096
_LONGEST_S = 600.0


@dataclass(frozen=True)
class RestartBench:
    """How many chunks to write below `folder`."""

    folder: Path
    records: int

    def run(self, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench disk --restart N --json`."""
        slot = slot_bytes(PAYLOAD_BYTES)
        limit_bytes = (self.records + 4096) * _LIMIT_BYTES_PER_RECORD
        slab_bytes = limit_bytes // 256
        check_room(
            self.folder,
            self.records * (slot + 2 * _INDEX_BYTES_PER_RECORD) + 2 * slab_bytes + (64 << 20),
        )
        with WorkFolder(self.folder) as place:
            started = time.perf_counter()
            self._write(place, limit_bytes, progress)
            write_s = time.perf_counter() - started
            for name in ("index", "order"):
                drop_from_page_cache(place / name)
            progress("attaching in a new process")
            outcome = _in_new_process(str(place), limit_bytes, self.records)
            index_bytes = (place / "index").stat().st_size
        return {
            "folder": str(self.folder),
            "records": self.records,
            "attach_ms": round(outcome["attach_s"] * 1e3, 2),
            "chunks_per_s": round(self.records / outcome["attach_s"]),
            "find_ms": round(outcome["find_s"] * 1e3, 2),
            "found": outcome["found"],
            "index_bytes": index_bytes,
            "write_s": round(write_s, 3),
        }

    def _write(self, place: Path, limit_bytes: int, progress: Callable[[str], None]) -> None:
        slot = slot_bytes(PAYLOAD_BYTES)
        memory = mmap.mmap(-1, _BATCH * slot)
        memory[:] = np.random.default_rng().bytes(len(memory))
        written = 0
        volume = _open(str(place), limit_bytes)
        try:
            for keys in key_batches(self.records):
                progress(f"writing {written:,} of {self.records:,} chunks")
                written += volume.write(keys, memory, slot, PAYLOAD_BYTES)
        finally:
            del volume  # closes it, also when this frame lives on in a traceback
        if written != self.records:
            raise LMCacheError(
                f"{self.records - written} of {self.records} chunks were not written"
            )


def key_batches(records: int) -> Iterator[bytes]:
    """Yield the keys of the measurement, the same in every process."""
    random = np.random.default_rng(records)
    for first in range(0, records, _BATCH):
        yield random.bytes(32 * min(_BATCH, records - first))


def drop_from_page_cache(path: Path) -> None:
    """Write back what of a file is in memory, and forget it."""
    file = os.open(path, os.O_RDONLY)
    try:
        # Everything, as after a restart: gigabytes of slabs on their way to the drive would be
        # measured with it.
        os.sync()
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _open(folder: str, limit_bytes: int) -> _native.DiskVolume:
    return _native.DiskVolume.open(
        [folder], lambda _level, _text: None, limit_bytes=limit_bytes, existing_only=False
    )


def _in_new_process(folder: str, limit_bytes: int, records: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    end, theirs = context.Pipe(duplex=False)
    arguments = (folder, limit_bytes, records, theirs)
    worker = context.Process(target=_attach, args=arguments, daemon=True)
    with running(worker):
        theirs.close()
        try:
            if not end.poll(_LONGEST_S):
                raise LMCacheError("the process of the measurement does not answer")
            outcome: dict[str, Any] = end.recv()
        except EOFError:
            raise LMCacheError("the process of the measurement failed") from None
    return outcome


def _attach(folder: str, limit_bytes: int, records: int, answers: Connection) -> None:
    started = time.perf_counter()
    volume = _open(folder, limit_bytes)
    attached = time.perf_counter()
    batches = list(key_batches(records))
    asked = time.perf_counter()
    found = sum(volume.find(keys) for keys in batches)
    answered = time.perf_counter()
    del volume
    answers.send({"attach_s": attached - started, "find_s": answered - asked, "found": found})
