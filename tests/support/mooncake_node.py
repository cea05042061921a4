# SPDX-License-Identifier: Apache-2.0
"""A `MooncakeRemote` of a test, and the memory that it moves chunks from and to."""

from __future__ import annotations

import mmap

import numpy as np
from mooncake_peer import HEADER_BYTES, content

from lmcache.errors import LMCacheError
from lmcache.remote.mooncake import MooncakeRemote

MIB = 1 << 20


def key(number: int) -> str:
    """Return a key as the engine makes them."""
    return f"{number:064x}"


class Node:
    """What one process has of the store; a chunk of a number has the bytes of that seed."""

    def __init__(self, url: str, *, timeout_s: float = 20) -> None:
        self.remote = MooncakeRemote(
            url, user=None, password=None, timeout_s=timeout_s, connections=2
        )
        self.memory = np.frombuffer(mmap.mmap(-1, 96 * MIB), dtype=np.uint8)
        self.remote.attach(self.memory.data)

    def put(self, number: int, size_bytes: int = 4096, *, seed: int = -1, ttl: int = 0) -> bool:
        """Store a chunk, header and rest apart."""
        record = content(number if seed < 0 else seed, size_bytes)
        start = 40 * MIB
        rest = self.memory[start : start + size_bytes - HEADER_BYTES]
        rest[:] = record[HEADER_BYTES:]
        header = memoryview(record[:HEADER_BYTES].tobytes())
        (stored,) = self.remote.put([key(number)], [[header, rest.data.toreadonly()]], ttl)
        return stored

    def get(self, number: int, buffer_bytes: int) -> bytes:
        """Return what comes of a chunk; nothing may be written behind the buffer."""
        self.memory[: buffer_bytes + 64] = 0xEE
        (length,) = self.remote.get_into([key(number)], [self.memory[:buffer_bytes].data])
        assert (self.memory[buffer_bytes : buffer_bytes + 64] == 0xEE).all()
        return self.memory[:length].tobytes()

    def answers(self) -> bool:
        """Tell whether the master answers."""
        try:
            self.remote.ping()
        except LMCacheError:
            return False
        return True
