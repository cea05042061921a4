# SPDX-License-Identifier: Apache-2.0
"""How fast chunks go to a remote store and come back, against loopback alone and redis-py.

A round writes every chunk and reads all of them, once by the remote tier with its checksums, once
by redis-py where it is installed, and once over a bare pair of blocking sockets between two
processes of this machine. They take turns within a round; a store whose client is in Python is
measured alone. A figure is the median over the rounds, a ratio the median of the ratios within a
round. The bare pair says what loopback can do: for a
store on another machine it is no yardstick. Its other side has one place for all chunks (`raw`),
which the ratios are over; a store cannot have that: `keep` is the same pair with memory for each.

`set` replaces values that were there before, as a store does that is full: each new value takes the
memory of an old one. `fresh_set` writes under new keys, after asking whether they are there, into
memory that the server must first get from its kernel, which may take it longer than everything
else; redis-py writes so, too.

`server_busy` is the share of the time of a `set` or `get` in which the server's one thread ran, by
its own account: near 1 the store is what limits, not the client. `ratio_limit` is the ratio with
that time alone, as of a client that costs nothing: none gets further with this server. Of a `set`
each value is summed (`sum_gbps`) before its header, which holds the sum, is sent: `set_ratio_limit`
is also no more than what one thread reaches that sums and then sends as the bare one does.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from lmcache import _native
from lmcache.bench.remote_clients import RedisPy, server_alone
from lmcache.bench.remote_raw import RawPair, raw_pair
from lmcache.errors import LMCacheError

# What was promised.
LEAST_RATIO = 0.8
LEAST_OVER_REDIS_PY = 1.5
LOOKUP_KEYS = 512
# A store that is slower than that, all connections together, does not take what it is to take in
# time.
LEAST_BYTES_PER_S = 20_000_000
# What was on its way when a transfer was given up arrives after it.
_LATE_S = 0.5

_HEADER_BYTES = 256
_MOVES = (
    "set",
    "get",
    "fresh_set",
    "raw_send",
    "raw_recv",
    "keep_send",
    "keep_recv",
    "redispy_set",
    "redispy_get",
    "sum",
)
Progress = Callable[[str], None]
OpenStore = Callable[[int, bool], _native.RemoteStore]
# Ours, ours again that overwrites, and the other one.
Clients = tuple[_native.RemoteStore, _native.RemoteStore, RedisPy | None]


@dataclass(frozen=True)
class RemoteBench:
    """What to measure: `size_bytes` in chunks of each size."""

    url: str = field(repr=False)
    open_store: OpenStore  # connections, whether it overwrites -> a store
    size_bytes: int
    payload_bytes: tuple[int, ...]
    connections: int = 4
    rounds: int = 5
    loopback: bool = True  # measure it too: the store is reached by a socket
    # Told of memory before chunks move between it and the stores.
    attach: Callable[[memoryview], None] = lambda _: None
    user: str = ""  # where the URL names none
    password: str = field(default="", repr=False)

    @property
    def moved_bytes(self) -> int:
        """Bytes that the largest line moves at once."""
        return max(moved_bytes(self.size_bytes, payload) for payload in self.payload_bytes)

    @property
    def memory_bytes(self) -> int:
        """Memory that measuring takes here, without that of the store."""
        largest = max(self.payload_bytes) + _HEADER_BYTES
        # The other side of the loopback keeps all chunks, and has a place for one.
        return 2 * self.moved_bytes + 2 * largest if self.loopback else self.moved_bytes

    def run(self, progress: Progress = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench remote --json`."""
        store = self.open_store(self.connections, False)
        full = self.open_store(self.connections, True)
        other = RedisPy.connect(self.url, self.user, self.password)
        try:
            lines = [
                self._line((store, full, other), payload, progress)
                for payload in self.payload_bytes
            ]
        finally:
            if other:
                other.close()
        return {**store.stat(), "connections": self.connections, "figures": lines}

    def _line(self, clients: Clients, payload: int, progress: Progress) -> dict[str, Any]:
        slot = _HEADER_BYTES + payload
        chunks = moved_bytes(self.size_bytes, payload) // slot
        tile = os.urandom(1 << 20)
        memory = memoryview(bytearray(tile * (chunks * slot // len(tile) + 1)))[: chunks * slot]
        self.attach(memory)
        kept = os.urandom(32 * chunks)
        rounds = []
        with (
            _taken_back(clients[1], kept),
            raw_pair(memory, slot) if self.loopback else nullcontext() as raw,
        ):
            for number in range(self.rounds + 1):
                progress(f"{payload / 2**20:g} MiB: round {number} of {self.rounds}")
                rounds.append(_round(clients, raw, memory, (kept, slot, payload)))
        moved = chunks * slot / 1e9
        return {
            "chunk_bytes": payload,
            "moved_bytes": chunks * slot,
            **_figures(rounds[1:], moved),
            **_lookup(clients[0]),
            **server_alone(self.url, payload, self.password),
        }


def moved_bytes(size_bytes: int, payload_bytes: int) -> int:
    """Return what is moved at once in chunks of that size: one at least."""
    slot = _HEADER_BYTES + payload_bytes
    return max(1, size_bytes // slot) * slot


@contextmanager
def _taken_back(store: _native.RemoteStore, keys: bytes) -> Iterator[None]:
    """Remove the chunks at the end, those that are there in part too; also after a failure."""
    try:
        yield
    except BaseException:
        with suppress(LMCacheError):  # it is the store that failed; what stays there expires
            store.remove(keys)
            time.sleep(_LATE_S)
            store.remove(keys)
        raise
    store.remove(keys)


def _round(
    clients: Clients, raw: RawPair | None, memory: memoryview, load: tuple[bytes, int, int]
) -> dict[str, float]:
    kept, slot, payload = load
    store, full, other = clients
    chunks = len(kept) // 32
    keys = [os.urandom(32) for _ in range(chunks)]
    fresh = b"".join(keys)
    with _taken_back(store, fresh):
        times = {"raw_send": raw.send()} if raw else {}
        started = time.perf_counter()
        _native.RemoteStore.sum(memory, slot)
        times["sum"] = time.perf_counter() - started
        with _server_cpu(other, times, "set"):
            times["set"] = _seconds(lambda: full.write(kept, memory, slot, payload), chunks)
        if raw:
            times["keep_send"] = raw.send(keep=True)
            times["keep_recv"] = raw.receive(kept=True)
            times["raw_recv"] = raw.receive()
        with _server_cpu(other, times, "get"):
            times["get"] = _seconds(lambda: full.read(kept, memory, slot), chunks)
        times["fresh_set"] = _seconds(lambda: store.write(fresh, memory, slot, payload), chunks)
        return {**times, **(other.move(keys, memory, slot) if other else {})}


@contextmanager
def _server_cpu(other: RedisPy | None, times: dict[str, float], move: str) -> Iterator[None]:
    before = other.server_cpu_s() if other else None
    yield
    after = other.server_cpu_s() if other else None
    if before is not None and after is not None:
        times[f"{move}_server"] = after - before


def _seconds(move: Callable[[], int], chunks: int) -> float:
    started = time.perf_counter()
    moved = move()
    elapsed = time.perf_counter() - started
    if moved != chunks:
        raise LMCacheError(f"{chunks - moved} of {chunks} chunks did not arrive")
    return elapsed


def _figures(rounds: list[dict[str, float]], gigabytes: float) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for name in _MOVES:
        there = all(name in costs for costs in rounds)
        seconds = statistics.median(costs[name] for costs in rounds) if there else None
        out[f"{name}_gbps"] = round(gigabytes / seconds, 3) if seconds else None
    for ratio, own, other in (
        ("set_ratio", "set", "raw_send"),
        ("get_ratio", "get", "raw_recv"),
        ("get_over_redispy", "get", "redispy_get"),
    ):
        there = all(other in costs for costs in rounds)
        out[ratio] = _median([costs[other] / costs[own] for costs in rounds] if there else [])
    for move, raw in (("set", "raw_send"), ("get", "raw_recv")):
        spent = f"{move}_server"
        known = [costs for costs in rounds if costs.get(spent)]
        out[f"{spent}_busy"] = _median([costs[spent] / costs[move] for costs in known])
        out[f"{move}_ratio_limit"] = _median(
            [costs[raw] / _least(costs, move) for costs in known if raw in costs]
        )
    return out


def _least(costs: dict[str, float], move: str) -> float:
    """Return the seconds that no client of one thread can do without."""
    ours = costs["raw_send"] + costs["sum"] if move == "set" else 0.0
    return max(costs[f"{move}_server"], ours)


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def _lookup(store: _native.RemoteStore) -> dict[str, float]:
    keys = os.urandom(32 * LOOKUP_KEYS)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        store.find(keys)
        times.append(time.perf_counter() - started)
    return {"exists_us_per_key": round(statistics.median(times) / LOOKUP_KEYS * 1e6, 3)}
