# SPDX-License-Identifier: Apache-2.0
"""How fast chunks go to a remote store and come back, against loopback alone and redis-py.

A round writes every chunk under a new key and reads all of them, once by the remote tier (with its
checksums and the question whether they are there already), once by redis-py where it is installed,
and once over a bare pair of blocking sockets between two processes of this machine. They take turns
within a round. A figure is the median over the rounds, a ratio the median of the ratios within a
round. The bare pair says what loopback can do: for a store on another machine it is no yardstick.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lmcache import _native
from lmcache.bench.remote_raw import RawPair, raw_pair
from lmcache.errors import LMCacheError

# What was promised.
LEAST_RATIO = 0.8
LEAST_OVER_REDIS_PY = 1.5
LOOKUP_KEYS = 512

_HEADER_BYTES = 256
Progress = Callable[[str], None]
OpenStore = Callable[[int], _native.RemoteStore]


@dataclass(frozen=True)
class RemoteBench:
    """What to measure: `size_bytes` in chunks of each size."""

    url: str
    open_store: OpenStore  # connections -> a store
    size_bytes: int
    payload_bytes: tuple[int, ...]
    connections: int = 4
    rounds: int = 5

    def run(self, progress: Progress = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench remote --json`."""
        store = self.open_store(self.connections)
        lines = [self._line(store, payload, progress) for payload in self.payload_bytes]
        return {**store.stat(), "connections": self.connections, "figures": lines}

    def _line(self, store: _native.RemoteStore, payload: int, progress: Progress) -> dict[str, Any]:
        slot = _HEADER_BYTES + payload
        chunks = max(4, self.size_bytes // slot)
        tile = os.urandom(1 << 20)
        memory = memoryview(bytearray(tile * (chunks * slot // len(tile) + 1)))[: chunks * slot]
        rounds = []
        with raw_pair(memory, slot) as raw:
            for number in range(self.rounds + 1):
                progress(f"{payload / 2**20:g} MiB: round {number} of {self.rounds}")
                rounds.append(self._round(store, raw, memory, (chunks, slot, payload)))
        moved = chunks * slot / 1e9
        return {
            "chunk_bytes": payload,
            "moved_bytes": chunks * slot,
            **_figures(rounds[1:], moved),
            **_lookup(store),
            **_server_alone(self.url, payload),
        }

    def _round(
        self,
        store: _native.RemoteStore,
        raw: RawPair,
        memory: memoryview,
        shape: tuple[int, int, int],
    ) -> dict[str, float]:
        chunks, slot, payload = shape
        keys = [os.urandom(32) for _ in range(chunks)]
        packed = b"".join(keys)
        try:
            times = {
                "raw_send": raw.send(),
                "set": _seconds(lambda: store.write(packed, memory, slot, payload), chunks),
                "raw_recv": raw.receive(),
                "get": _seconds(lambda: store.read(packed, memory, slot), chunks),
            }
            return {**times, **_redis_py(self.url, keys, memory, slot)}
        finally:
            store.remove(packed)


def _seconds(move: Callable[[], int], chunks: int) -> float:
    started = time.perf_counter()
    moved = move()
    elapsed = time.perf_counter() - started
    if moved != chunks:
        raise LMCacheError(f"{chunks - moved} of {chunks} chunks did not arrive")
    return elapsed


def _redis_py(url: str, keys: list[bytes], memory: memoryview, slot: int) -> dict[str, float]:
    """Return what redis-py takes for the same bytes, one command after the other."""
    try:
        import redis
    except ImportError:
        return {}
    client = redis.Redis.from_url(url.replace("valkey", "redis", 1))
    names = [b"lmcache-bench:" + key for key in keys]
    try:
        started = time.perf_counter()
        for i, name in enumerate(names):
            client.set(name, memory[i * slot : (i + 1) * slot])
        stored = time.perf_counter()
        for i, name in enumerate(names):
            memory[i * slot : (i + 1) * slot] = client.get(name)
        return {"redispy_set": stored - started, "redispy_get": time.perf_counter() - stored}
    finally:
        client.delete(*names)
        client.close()


def _figures(rounds: list[dict[str, float]], gigabytes: float) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for name in ("set", "get", "raw_send", "raw_recv", "redispy_set", "redispy_get"):
        there = all(name in costs for costs in rounds)
        seconds = statistics.median(costs[name] for costs in rounds) if there else None
        out[f"{name}_gbps"] = round(gigabytes / seconds, 3) if seconds else None
    for ratio, own, other in (
        ("set_ratio", "set", "raw_send"),
        ("get_ratio", "get", "raw_recv"),
        ("get_over_redispy", "get", "redispy_get"),
    ):
        there = all(other in costs for costs in rounds)
        ratios = [costs[other] / costs[own] for costs in rounds] if there else []
        out[ratio] = round(statistics.median(ratios), 3) if ratios else None
    return out


def _lookup(store: _native.RemoteStore) -> dict[str, float]:
    keys = os.urandom(32 * LOOKUP_KEYS)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        store.find(keys)
        times.append(time.perf_counter() - started)
    return {"exists_us_per_key": round(statistics.median(times) / LOOKUP_KEYS * 1e6, 3)}


def _server_alone(url: str, payload: int) -> dict[str, float | None]:
    """Return what redis-benchmark, a client in C, gets out of the same server."""
    program, place = shutil.which("redis-benchmark"), urlsplit(url)
    if not program or place.scheme not in ("redis", "valkey") or place.password:
        return {"benchmark_set_gbps": None, "benchmark_get_gbps": None}
    out: dict[str, float | None] = {}
    count = max(20, (256 << 20) // payload)
    shape = ["-c", "4", "--csv"]
    address = ["-h", place.hostname or "127.0.0.1", "-p", str(place.port or 6379)]
    for name in ("set", "get"):
        result = subprocess.run(
            [program, *address, "-d", str(payload), "-n", str(count), "-t", name, *shape],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        rows = [row.split(",") for row in result.stdout.splitlines()]
        rates = [float(row[1].strip('"')) for row in rows if name.upper() in row[0]]
        out[f"benchmark_{name}_gbps"] = round(rates[0] * payload / 1e9, 3) if rates else None
    return out
