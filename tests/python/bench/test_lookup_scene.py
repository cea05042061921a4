# SPDX-License-Identifier: Apache-2.0
"""The segment of the look-up benchmark holds what it says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lmcache.bench.lookup_scene import CHUNK_TOKENS, LookupScene
from lmcache.errors import LMCacheError

PROMPT = np.arange(8 * CHUNK_TOKENS, dtype=np.int32)


@pytest.fixture
def scene() -> Iterator[LookupScene]:
    with LookupScene("private", 700, create=True) as made:
        yield made


def test_it_is_filled_to_the_number(scene: LookupScene) -> None:
    scene.store(PROMPT)
    for entries in (100, 700):
        scene.fill(entries)
        status = scene._engine.status()
        assert status["entries"] == entries
        assert status["capacity_bytes"] <= LookupScene.memory_bytes(700)
    assert scene._engine.stats()["evicted_chunks"] == 0
    assert scene.lookup_us(PROMPT) > 0


def test_a_miss_is_no_measurement(scene: LookupScene) -> None:
    with pytest.raises(LMCacheError, match="0 of 2048 tokens were found"):
        scene.lookup_us(PROMPT)


def test_leases_are_given_back(scene: LookupScene) -> None:
    scene.store(PROMPT)
    for _ in range(3):
        scene.lookup_us(PROMPT)
    assert scene._engine.status()["leased"] == 0


def test_more_than_there_is_room_for(scene: LookupScene) -> None:
    with pytest.raises(LMCacheError, match="too small"):
        scene.store(np.arange(100_000 * CHUNK_TOKENS, dtype=np.int32))
