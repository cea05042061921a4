# SPDX-License-Identifier: Apache-2.0
"""Measure `MooncakeRemote` over loopback, with another process lending the memory.

Usage: PYTHONPATH=python:tests/support python tests/support/mooncake_bench.py
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections.abc import Callable

import numpy as np
from mooncake_server import MIB, MooncakeMaster, MooncakePeer

from lmcache.remote.mooncake import MooncakeRemote

BATCH_BYTES = 64 * MIB
TURNS = 7


def median_s(call: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Return the median seconds of a call."""
    seconds = []
    for _ in range(TURNS):
        before()
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def transfers(remote: MooncakeRemote, memory: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
    """Print how fast chunks of several sizes are written and read, 64 MiB at a time."""
    header = memoryview(bytes(256))
    for size_bytes in (256 * 1024, MIB, 4 * MIB, 16 * MIB, 32 * MIB):
        count = BATCH_BYTES // size_bytes
        keys = [f"{number:064x}" for number in range(count)]
        parts = [memory[i * size_bytes : (i + 1) * size_bytes] for i in range(count)]
        values = [[header, part[256:].data.toreadonly()] for part in parts]
        buffers = [part.data for part in parts]
        for ttl in (0, 1000):
            put_s = median_s(lambda v=values, t=ttl, k=keys: remote.put(k, v, t), remote.clear)
            get_s = median_s(lambda b=buffers, k=keys: remote.get_into(k, b))
            put, get = (BATCH_BYTES / seconds / 1e9 for seconds in (put_s, get_s))
            print(
                f"{size_bytes / MIB:6.2f} MiB x {count:3d}, ttl {ttl:4d}: "
                f"put {put:.2f} GB/s, get {get:.2f} GB/s"
            )


def lookups(remote: MooncakeRemote, memory: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
    """Print what asking for 200 keys takes."""
    keys = [f"{number:064x}" for number in range(200)]
    absent = [f"{number:064x}" for number in range(1000, 1200)]
    value = [memory[:4096].data.toreadonly()]
    for ttl in (0, 1000):
        remote.put(keys, [value] * 200, ttl)
        there = median_s(lambda: remote.exists(keys)) * 1e3
        print(f"exists of 200 keys, ttl {ttl:4d}: {there:.2f} ms")
    print(f"exists of 200 absent keys: {median_s(lambda: remote.exists(absent)) * 1e3:.2f} ms")
    print(f"ping: {median_s(remote.ping) * 1e6:.0f} us")


def main() -> None:
    """Measure all."""
    master = MooncakeMaster()
    lender = MooncakePeer(master.url(lent_bytes=512 * MIB))
    remote = MooncakeRemote(master.url(), user=None, password=None, timeout_s=20, connections=2)
    try:
        memory = np.frombuffer(mmap.mmap(-1, BATCH_BYTES), dtype=np.uint8)
        memory[:] = 1
        remote.attach(memory.data)
        transfers(remote, memory)
        lookups(remote, memory)
    finally:
        remote.close()
        lender.kill()
        master.remove()


if __name__ == "__main__":
    main()
