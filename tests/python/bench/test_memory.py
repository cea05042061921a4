# SPDX-License-Identifier: Apache-2.0
"""The memory benchmark measures copies that really happen."""

from __future__ import annotations

import numpy as np
import pytest

from lmcache.bench import memory
from lmcache.bench.memory import CHUNK_BYTES, MemoryBench
from lmcache.errors import LMCacheError

KEYS = ["memcpy_gbps", "store_gbps", "load_gbps", "store_ratio", "load_ratio", "threads"]


def test_keys_and_figures() -> None:
    told: list[str] = []
    figures = MemoryBench(pool_bytes=6 * CHUNK_BYTES, rounds=2, threads=2).run(told.append)
    assert list(figures) == KEYS
    assert figures["threads"] == 2
    assert all(0 < figures[key] < 1000 for key in KEYS)
    assert told[-1] == "round 2 of 2"


def test_chunks_are_of_4_mb_in_blocks_of_16_tokens() -> None:
    assert CHUNK_BYTES == 4 << 20
    assert (memory.BLOCK_TOKENS, memory.CHUNK_TOKENS) == (16, 256)


def test_every_byte_is_copied_and_pages_are_scattered() -> None:
    with memory._Scene(4, 2) as scene:
        blocks = np.array(scene._blocks)
        assert sorted(blocks.ravel()) == list(range(4 * 16))
        assert not (np.diff(blocks) == 1).all()
        pool = scene._pool
        pool[:] = np.random.default_rng(3).integers(0, 256, pool.shape, np.uint8)
        before = pool.copy()
        assert scene.copy() > 0
        assert (scene._plain == pool.ravel()).all()
        scene.store()
        pool[:] = 0
        scene.load()
        assert (pool == before).all()
        counts = scene._engine.stats()
        assert counts["stored_bytes"] == counts["loaded_bytes"] == 4 * CHUNK_BYTES


def test_a_share_for_each_thread_covers_everything() -> None:
    with memory._Scene(3, 3) as scene:
        scene.copy()
        assert (scene._plain == 1).all()


def test_a_copy_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory._Scene(2, 1) as scene:
        monkeypatch.setattr(memory, "_WAIT_MS", 0)
        monkeypatch.setattr(scene, "_blocks", [[0] * 16, [0] * 15])  # one does not fill its chunk
        with pytest.raises(LMCacheError, match="failed"):
            scene.store()
