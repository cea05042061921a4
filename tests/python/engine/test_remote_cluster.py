# SPDX-License-Identifier: Apache-2.0
"""`LMCacheEngine` with a Redis cluster, in the clear and over TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kv_arrays import empty_kv, is_kv_of, kv_of
from redis_cluster import RedisCluster
from redis_server import INSTALLED, NOT_INSTALLED, connected, until
from tls_files import TlsFiles

from lmcache import LMCacheEngine

PROMPT = list(range(500))
CHUNKS = 32

pytestmark = pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)


def open_engine(url: str) -> LMCacheEngine:
    settings = {
        "segment": "private",
        "max_local_cpu_size": 0.03,
        "chunk_size": 16,
        "load_policy": "always",
        "remote_lookup_timeout_ms": 5000,
        "remote_url": url,
    }
    return LMCacheEngine(settings, model="m")


@pytest.mark.parametrize("over_tls", [False, True])
def test_another_engine_gets_every_byte_from_all_nodes(tmp_path: Path, over_tls: bool) -> None:
    tls = TlsFiles(tmp_path / "tls") if over_tls else None
    with RedisCluster(tls=tls) as cluster:
        assert cluster.url.startswith("rediss-cluster://" if over_tls else "redis-cluster://")
        with open_engine(cluster.url) as one:
            until(lambda: connected(one))
            assert one.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)
            one.flush()
            assert one._native.stats()["remote_written_chunks"] == CHUNKS
        at_nodes = [len(cluster.chunks(node)) for node in range(3)]
        assert (min(at_nodes) > 0, sum(at_nodes)) == (True, CHUNKS)
        with open_engine(cluster.url) as other:
            until(lambda: connected(other))
            out = empty_kv(len(PROMPT))
            assert other.retrieve(PROMPT, out) == len(PROMPT)
            assert is_kv_of(out, PROMPT)
            counts = other._native.stats()
            assert counts["remote_read_chunks"] == CHUNKS
            assert counts["remote_corrupt_chunks"] == counts["remote_read_errors"] == 0


@pytest.mark.parametrize("wrong", ["authority", "clear"])
def test_a_cluster_that_proves_nothing_is_not_used(
    tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another authority's certificate; and a client that speaks in the clear to a port with TLS."""
    with RedisCluster(tls=TlsFiles(tmp_path / "tls")) as cluster:
        address, _, _ca = cluster.url.partition("?")
        if wrong == "authority":
            url = f"{address}?{TlsFiles(tmp_path / 'other').query}"
        else:
            url = address.replace("rediss-", "redis-")
        with open_engine(url) as engine:
            until(lambda: failures(engine) > 0)
            assert not connected(engine)
            assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)
            out: Any = empty_kv(len(PROMPT))
            assert engine.retrieve(PROMPT, out) == len(PROMPT)
            engine.flush()
        assert sum(len(cluster.chunks(node)) for node in range(3)) == 0
        told = [line for line in caplog.messages if "remote cache" in line]
        assert len(told) == 1
        assert "going on without it" in told[0]
        assert wrong == "clear" or "certificate" in told[0]


def failures(engine: LMCacheEngine) -> int:
    return int(engine._native.status()["processes"][0]["remote_failures"])
