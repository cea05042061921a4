# SPDX-License-Identifier: Apache-2.0
"""Engines that share nothing but a store with a client in Python; the store is the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mooncake_server
import numpy as np
import object_servers
import pytest
from mooncake_server import MIB, MooncakeMaster, MooncakePeer
from object_servers import AZURE_ACCOUNT, AZURE_KEY, Azurite, MotoServer, ObjectServer
from redis_server import connected, until

from lmcache import LMCacheConfig, LMCacheEngine
from lmcache.types import KVGeometry

pytestmark = [pytest.mark.multiprocess, pytest.mark.timeout(180)]

GEOMETRY = KVGeometry(layers=4, kv_heads=4, head_dim=64, dtype="float32")
TOKENS = list(range(1000))  # four chunks of 2 MiB, the last one shorter
KV = np.random.default_rng(1).standard_normal((4, 2, 1000, 4, 64)).astype(np.float32)


@pytest.fixture(params=["s3", "az", "mooncakestore"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "mooncakestore":
        if reason := mooncake_server.not_usable():
            pytest.skip(reason)
        master = MooncakeMaster()
        lender = MooncakePeer(master.url(lent_bytes=256 * MIB))
        yield master
        lender.kill()
        master.remove()
        return
    if request.param == "az" and (reason := object_servers.azurite_missing()):
        if object_servers.must_run():
            pytest.fail(reason)
        pytest.skip(reason)
    server: ObjectServer = MotoServer() if request.param == "s3" else Azurite()
    yield server
    server.stop()


def login(store: Any) -> dict[str, str]:
    if isinstance(store, Azurite):
        return {"remote_user": AZURE_ACCOUNT, "remote_password": AZURE_KEY}
    if isinstance(store, MotoServer):
        return {"remote_user": "AKIAEXAMPLE", "remote_password": "any secret"}
    return {}


def open_engine(store: Any) -> LMCacheEngine:
    config = LMCacheConfig(
        segment="private",
        max_local_cpu_size=0.1,
        remote_url=store.url(),
        load_policy="always",
        remote_lookup_timeout_ms=5000,
        **login(store),
    )
    engine = LMCacheEngine(config, model="m", geometry=GEOMETRY)
    until(lambda: connected(engine), 60)
    return engine


def test_what_one_stored_another_has(store: Any) -> None:
    with open_engine(store) as cache:
        assert cache.store(TOKENS, KV) == 1000
        cache.flush()
        assert cache._native.stats()["remote_written_chunks"] == 4
    out = np.zeros_like(KV)
    with open_engine(store) as cache:
        assert cache.retrieve(TOKENS, out) == 1000
        assert cache._native.stats()["remote_read_chunks"] == 4
        assert cache._native.stats()["remote_corrupt_chunks"] == 0
        # Nothing is sent twice.
        cache.clear()
        assert cache.store(TOKENS, KV) == 1000
        cache.flush()
        assert cache._native.stats()["remote_known_chunks"] == 4
    np.testing.assert_array_equal(out, KV)
