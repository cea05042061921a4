# SPDX-License-Identifier: Apache-2.0
"""What a disk does without us: the same bytes, in pieces of the same size, past the page cache.

Two ways to find out: the engine of I/O of the native library alone (`_native.raw_transfer`),
without the tier above it, and `fio`, a program that everybody knows. Both move a file that lies
there in full and was written before, with O_DIRECT and the depth of the tier.

The native one is what counts, because it is the stricter: it moves the very memory that the tier
moves, a moment before or after. fio brings its own memory, and how a request is cut depends on how
scattered its pages are (a virtual disk takes 254 segments; out of huge pages the same disk moved up
to twice as much as out of 4 KiB pages), so its figure is one of its memory too; in turns with the
native one on such a disk it was never faster by more than the noise, and often half as fast. Its
start-up does not count: its own clock is taken. It neither scrambles its buffers before each write
nor draws new random bytes, which would be its cost and not that of the disk.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lmcache import _native
from lmcache.errors import LMCacheError, UnavailableError

# As include/lmcache/io/io_engine.hpp.
THREADS = 8


@dataclass(frozen=True)
class Cost:
    """What moving everything once took."""

    seconds: float
    cpu_s: float


class Stopwatch:
    """Times a block, and the processor time of this process, kernel included."""

    def __enter__(self) -> Stopwatch:
        self._cpu_s = _cpu_s()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cost = Cost(time.perf_counter() - self._started, _cpu_s() - self._cpu_s)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class RawLoad:
    """What to move: `chunks` pieces of `slot_bytes` of the file `path`."""

    path: Path
    chunks: int
    slot_bytes: int
    engine: str  # io_uring, threads
    depth_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return self.chunks * self.slot_bytes


class Raw(Protocol):
    """A way to measure the disk alone."""

    name: str

    def write(self) -> Cost:
        """Write every chunk, in order."""

    def read(self, order: list[int]) -> Cost:
        """Read every chunk, in this order."""


class NativeRaw:
    """Our engine of I/O alone, out of the memory that the tier uses too."""

    name = "native"

    def __init__(self, load: RawLoad, memory: mmap.mmap) -> None:
        self._load = load
        self._memory = memory

    def write(self) -> Cost:
        """Write every chunk, in order."""
        return self._move(True, list(range(self._load.chunks)))

    def read(self, order: list[int]) -> Cost:
        """Read every chunk, in this order."""
        return self._move(False, order)

    def _move(self, write: bool, order: list[int]) -> Cost:
        load = self._load
        with Stopwatch() as watch:
            seconds = _native.raw_transfer(
                str(load.path),
                write,
                load.slot_bytes,
                order,
                self._memory,
                load.engine,
                load.depth_bytes,
            )
        return Cost(seconds, watch.cost.cpu_s)


class FioRaw:
    """fio: io_uring with as many requests in flight as fit the depth, or threads in pread(2)."""

    name = "fio"

    def __init__(self, load: RawLoad) -> None:
        self._load = load

    def write(self) -> Cost:
        """Write every chunk, in order."""
        return self._run("write")

    def read(self, order: list[int]) -> Cost:
        """Read every chunk: in order, or in a random one of fio's own."""
        return self._run("read" if order == sorted(order) else "randread")

    def _run(self, pattern: str) -> Cost:
        load = self._load
        jobs = 1 if load.engine == "io_uring" else min(THREADS, load.chunks)
        depth = max(1, load.depth_bytes // load.slot_bytes) if jobs == 1 else 1
        share = load.size_bytes // jobs
        command = [
            "fio",
            "--name=raw",
            f"--filename={load.path}",
            f"--rw={pattern}",
            f"--bs={load.slot_bytes}",
            f"--size={share}",
            f"--offset_increment={share}",
            f"--numjobs={jobs}",
            f"--iodepth={depth}",
            f"--ioengine={'io_uring' if load.engine == 'io_uring' else 'psync'}",
            "--thread",
            "--direct=1",
            "--overwrite=1",
            "--fallocate=none",
            "--scramble_buffers=0",
            "--randrepeat=0",
            "--group_reporting",
            "--output-format=json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LMCacheError(f"fio failed: {(done.stderr or done.stdout).strip()[:300]}")
        return cost_of(json.loads(done.stdout), load.size_bytes)


def cost_of(answer: dict[str, Any], size_bytes: int) -> Cost:
    """Return what fio measured, out of its JSON. Its processor time is a share of the run time."""
    (job,) = answer["jobs"]
    side = max((job["read"], job["write"]), key=lambda moved: int(moved["io_bytes"]))
    if side["io_bytes"] != size_bytes:
        raise LMCacheError(f"fio moved {side['io_bytes']} bytes instead of {size_bytes}")
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000
    return Cost(size_bytes / side["bw_bytes"], cpu)


def make_raw(kind: str, load: RawLoad, memory: mmap.mmap) -> Raw:
    """Return the baseline "native" or "fio", its file laid out in full."""
    if kind == "fio" and shutil.which("fio") is None:
        raise UnavailableError("--raw = fio: there is no program fio here")
    lay_out(load)
    return FioRaw(load) if kind == "fio" else NativeRaw(load, memory)


def lay_out(load: RawLoad) -> None:
    """Reserve the room of the file, as the tier does for its slabs."""
    file = os.open(load.path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(file, 0, load.size_bytes)
    finally:
        os.close(file)
