# SPDX-License-Identifier: Apache-2.0
"""`LMCacheEngine` with a disk tier: memory comes and goes, the disk stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmcache import LMCacheEngine, _native
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
TOKENS = list(range(1000))


def kv(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((2, 2, 1000, 2, 32)).astype(np.float32)


def open_engine(folder: Path, **settings: Any) -> LMCacheEngine:
    config = {
        "max_local_cpu_size": 0.05,
        "segment": "private",
        "local_disk": str(folder),
        "max_local_disk_size": 0.1,
        "load_policy": "always",
        **settings,
    }
    return LMCacheEngine(config, model="m", geometry=GEOMETRY)


@pytest.mark.parametrize("io", ["io_uring", "threads"])
def test_a_new_engine_reads_what_the_old_one_stored(tmp_path: Path, io: str) -> None:
    if io == "io_uring" and (why := _native.uring_refusal()):
        pytest.skip(why)
    stored, out = kv(), np.zeros_like(kv())
    with open_engine(tmp_path / "disk", disk_io=io) as cache:
        assert cache.store(TOKENS, stored) == 1000
    with open_engine(tmp_path / "disk", disk_io=io) as cache:
        assert cache.lookup(TOKENS) == 1000
        assert cache._native.stats()["disk_read_chunks"] == 0  # looked up, not read
        assert cache.retrieve(TOKENS, out) == 1000
        np.testing.assert_array_equal(out, stored)
        assert cache.retrieve(TOKENS[:300], out) == 300


def test_prefetch_brings_it_into_memory(tmp_path: Path) -> None:
    with open_engine(tmp_path / "disk") as cache:
        cache.store(TOKENS, kv())
    with open_engine(tmp_path / "disk") as cache:
        assert cache.prefetch(TOKENS) == 1000
        read = cache._native.stats()["disk_read_chunks"]
        assert read == 4
        cache.retrieve(TOKENS, np.zeros_like(kv()))
        assert cache._native.stats()["disk_read_chunks"] == read


def test_clear_forgets_what_is_on_disk(tmp_path: Path) -> None:
    with open_engine(tmp_path / "disk") as cache:
        cache.store(TOKENS, kv())
        cache.flush()
        assert cache.clear() == 4
        assert cache.lookup(TOKENS) == 0
    with open_engine(tmp_path / "disk") as cache:
        assert cache.lookup(TOKENS) == 0


def test_memory_as_a_mere_station(tmp_path: Path) -> None:
    with open_engine(tmp_path / "disk", local_cpu=False) as cache:
        assert cache.store(TOKENS, kv()) == 1000
        assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
