# SPDX-License-Identifier: Apache-2.0
"""Several processes look up at once, and a failure of one is told."""

from __future__ import annotations

import os

import numpy as np
import pytest

from lmcache.bench.lookup_process import together
from lmcache.bench.lookup_scene import CHUNK_TOKENS, LookupScene
from lmcache.errors import LMCacheError

PROMPT = np.arange(8 * CHUNK_TOKENS, dtype=np.int32)

pytestmark = pytest.mark.multiprocess


def test_two_processes_at_once() -> None:
    name = f"test-lookup-{os.getpid()}"
    with LookupScene(name, 100, create=True) as scene:
        scene.store(PROMPT)
        assert together(2, name, PROMPT, 5) > 0
        counts = scene._engine.status()["total"]
        assert counts["lookups"] == 2 * (5 + 5)
        assert counts["hit_tokens"] == counts["lookup_tokens"]


def test_a_process_that_finds_nothing() -> None:
    name = f"test-lookup-{os.getpid()}"
    with LookupScene(name, 100, create=True), pytest.raises(LMCacheError, match="failed"):
        together(1, name, PROMPT, 5)
