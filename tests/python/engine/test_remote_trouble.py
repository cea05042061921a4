# SPDX-License-Identifier: Apache-2.0
"""Stores that are full, may not be written to, or talk nonsense: requests go on as without one."""

from __future__ import annotations

import itertools
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from kv_arrays import empty_kv, is_untouched
from redis_server import connected, until

from lmcache import LMCacheEngine
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
COUNT = 1000  # tokens, in four chunks of 256 KB
LATE_S = 30


def tokens_of(seed: int) -> list[int]:
    return [seed, *range(1, COUNT)]


def kv_of(seed: int) -> np.ndarray[Any, Any]:
    shape = (2, 2, COUNT, 2, 32)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def open_engine(url: str, **settings: Any) -> LMCacheEngine:
    config = {
        "max_local_cpu_size": 0.1,
        "segment": "private",
        "remote_url": url,
        "load_policy": "always",
        "remote_lookup_timeout_ms": 2000,
        **settings,
    }
    return LMCacheEngine(config, model="m", geometry=GEOMETRY)


def store(engine: LMCacheEngine, seed: int) -> None:
    began = time.monotonic()
    assert engine.store(tokens_of(seed), kv_of(seed)) == COUNT
    engine.flush()
    assert time.monotonic() - began < LATE_S


def read(engine: LMCacheEngine, seed: int) -> int:
    """Return the tokens found; each of their bytes is right, and nothing else was written."""
    began = time.monotonic()
    out = empty_kv(COUNT, GEOMETRY)
    found = engine.retrieve(tokens_of(seed), out)
    assert time.monotonic() - began < LATE_S
    np.testing.assert_array_equal(out[:, :, :found], kv_of(seed)[:, :, :found])
    assert is_untouched(out, found)
    return found


def test_a_full_store_that_evicts(start_redis: Any) -> None:
    server = start_redis(options=("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"))
    with open_engine(server.url) as writer:
        until(lambda: connected(writer))
        for seed in range(8):
            store(writer, seed)
        counts = writer._native.stats()
        assert counts["remote_written_chunks"] == 8 * 4
        assert counts["remote_dropped_writes"] == counts["remote_write_errors"] == 0
    assert 0 < len(server.chunks()) < 8 * 4
    assert server.client().info("stats")["evicted_keys"] > 0
    with open_engine(server.url) as reader:
        until(lambda: connected(reader))
        found = [read(reader, seed) for seed in range(8)]
        assert max(found) > 0
        assert min(found) < COUNT
        counts = reader._native.stats()
        assert counts["remote_corrupt_chunks"] == counts["remote_read_errors"] == 0


def test_a_replica_that_may_only_be_read(start_redis: Any) -> None:
    master = start_redis()
    with open_engine(master.url) as writer:
        until(lambda: connected(writer))
        store(writer, 0)
    replica = start_redis(
        options=("--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0")
    )
    until(lambda: len(replica.chunks()) == 4)
    with open_engine(replica.url) as engine:
        until(lambda: connected(engine))
        assert read(engine, 0) == COUNT
        for seed in range(1, 4):
            store(engine, seed)
            assert read(engine, seed) == COUNT
        counts = engine._native.stats()
        assert counts["remote_written_chunks"] == 0
        assert counts["remote_dropped_writes"] + counts["remote_write_errors"] == 3 * 4
        assert len(replica.chunks()) == 4
        # It becomes a master.
        replica.client().execute_command("REPLICAOF", "NO", "ONE")
        seeds = itertools.count(9)

        def takes_chunks() -> bool:
            store(engine, next(seeds))
            return len(replica.chunks()) >= 8

        until(takes_chunks, 60)


ANSWERS = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "noise": b"",  # random bytes
    "agrees with everything": b"+OK\r\n",
    "has a number for everything": b":1\r\n",
    "a map for everything": b"%1\r\n+proto\r\n:3\r\n",
    "a value that never ends": b"$9000000000000000000\r\nx",
    "no end of a line": b"+" + b"x" * 100_000,
    "too many items": b"*1000000000\r\n",
}
# Replies that end: they are taken for those to SET. What they bring when asked for chunks is not.
POLITE = ("agrees with everything", "has a number for everything", "a map for everything")


@contextmanager
def babbling(answer: bytes) -> Iterator[str]:
    """Serve this answer to whatever is asked; give its address."""

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                while data := self.request.recv(1 << 16):
                    # To each command, so that whoever counts them is not left waiting.
                    times = max(1, data.count(b"*"))
                    self.request.sendall(answer * times or random.Random(7).randbytes(5000))
            except OSError:
                pass  # it was told to go

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Babble) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ANSWERS)
def test_a_server_that_talks_nonsense(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with babbling(ANSWERS[name]) as url, open_engine(url) as engine:
        until(lambda: failures(engine) > 0 or connected(engine))
        for seed in range(2):
            assert read(engine, seed) == 0
            store(engine, seed)
            assert read(engine, seed) == COUNT
        counts = engine._native.stats()
        assert counts["remote_read_chunks"] == counts["remote_hit_tokens"] == 0
        if name not in POLITE:
            assert counts["remote_written_chunks"] == 0
            until(lambda: failures(engine) > 0)
            assert "going on without it until it answers" in caplog.text
        status = engine._native.status()
        assert status["leased"] == status["writing"] == 0


def failures(engine: LMCacheEngine) -> int:
    return int(engine._native.status()["processes"][0]["remote_failures"])
