# SPDX-License-Identifier: Apache-2.0
"""Run by `mooncake_server.MooncakePeer`: takes commands as lines of JSON, answers each with one."""

from __future__ import annotations

import json
import sys

import numpy as np

from lmcache.remote.mooncake import MooncakeRemote

MEMORY_BYTES = 80 << 20
HEADER_BYTES = 256


def content(seed: int, size_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the bytes that a seed stands for, in all processes."""
    return np.random.default_rng(seed).integers(0, 256, size_bytes, dtype=np.uint8)


def main() -> None:
    """Serve until the other end is closed."""
    url, timeout_s = sys.argv[1], float(sys.argv[2])
    remote = MooncakeRemote(url, user=None, password=None, timeout_s=timeout_s, connections=2)
    memory = np.zeros(MEMORY_BYTES, dtype=np.uint8)
    remote.attach(memory.data)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: object = None
        if command == "ping":
            remote.ping()
        elif command == "put":
            key, seed, size_bytes = arguments
            record = content(seed, size_bytes)
            memory[: size_bytes - HEADER_BYTES] = record[HEADER_BYTES:]
            rest = memory[: size_bytes - HEADER_BYTES].data.toreadonly()
            header = memoryview(record[:HEADER_BYTES].tobytes())
            answer = list(remote.put([key], [[header, rest]], 0))
        elif command == "get":
            key, seed, size_bytes = arguments
            (length,) = remote.get_into([key], [memory.data])
            equal = bool(np.array_equal(memory[:size_bytes], content(seed, size_bytes)))
            answer = [length, equal]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
