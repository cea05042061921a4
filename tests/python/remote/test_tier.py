# SPDX-License-Identifier: Apache-2.0
"""The configured store is served, or its absence is one line; commands fail with the same words."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_store import FolderStore
from redis_server import connected, until

from lmcache import LMCacheConfig, LMCacheEngine
from lmcache.engine.opening import open_native, remote_options
from lmcache.errors import InvalidArgumentError, UnavailableError
from lmcache.remote.tier import engine_service, store_service
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
TOKENS = list(range(1000))


def config(url: str | None, **settings: Any) -> LMCacheConfig:
    return LMCacheConfig(
        segment="private", max_local_cpu_size=0.05, remote_url=url, load_policy="always", **settings
    )


def nothing(level: int, line: str) -> None:
    pass


def test_engines_share_a_folder(tmp_path: Path) -> None:
    settings = config(f"file://{tmp_path}", remote_lookup_timeout_ms=5000)
    kv = np.random.default_rng(1).standard_normal((2, 2, 1000, 2, 32)).astype(np.float32)
    with LMCacheEngine(settings, model="m", geometry=GEOMETRY) as cache:
        until(lambda: connected(cache))
        assert cache.store(TOKENS, kv) == 1000
        cache.flush()
    out = np.zeros_like(kv)
    with LMCacheEngine(settings, model="m", geometry=GEOMETRY) as cache:
        until(lambda: connected(cache))
        assert cache.retrieve(TOKENS, out) == 1000
    np.testing.assert_array_equal(out, kv)


def test_who_is_not_served_here(tmp_path: Path) -> None:
    assert engine_service(config(None), nothing) is None
    assert engine_service(config("redis://host"), nothing) is None
    switched_off = config(f"file://{tmp_path}", enable_remote_cache=False)
    assert engine_service(switched_off, nothing) is None


def test_a_remote_of_ones_own_goes_first(tmp_path: Path) -> None:
    service = engine_service(config("redis://host"), nothing, FolderStore(tmp_path))
    assert service is not None
    assert service.calls.name == "FolderStore"
    options = remote_options(config("redis://host"), service.calls)
    assert options["remote_calls"] is service.calls
    assert "remote_url" not in options
    assert options["remote_connections"] == 4
    service.close()


def test_a_missing_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "lmcache.remote.object_store", raising=False)
    settings = config("s3://me:sesame@bucket")
    with caplog.at_level(logging.INFO, "lmcache"):
        engine = open_native(settings, role="test")
    assert not engine.has_lower_tier
    engine.close()
    (line,) = [line for line in caplog.messages if "remote" in line]
    assert line.startswith("going on without the remote cache s3://me:***@bucket: ")
    assert "lmcache[object-store]" in line
    with pytest.raises(UnavailableError, match="object-store"):
        store_service(settings, "s3://me:sesame@bucket", 2, nothing)


def test_an_address_that_is_none() -> None:
    with pytest.raises(InvalidArgumentError, match="a folder is file:///"):
        open_native(config("file://host/x"), role="test")


def test_the_name_has_no_password(tmp_path: Path) -> None:
    settings = config("s3://me:sesame@bucket")
    service = store_service(settings, "s3://me:sesame@bucket?region=x", 2, nothing)
    assert service.calls.name == "s3://me:***@bucket?region=x"
    service.close()
