# SPDX-License-Identifier: Apache-2.0
"""Chunks in a remote store, without an engine."""

from __future__ import annotations

import mmap

import numpy as np

from lmcache import _native

PAYLOAD_BYTES = 10_000
SLOT_BYTES = 10_256  # with the header


def write_chunks(url: str, chunks: int, seed: int = 0) -> bytes:
    """Write chunks into a store; return their keys."""
    random = np.random.default_rng(seed)
    memory = mmap.mmap(-1, chunks * SLOT_BYTES)
    memory[:] = random.bytes(len(memory))
    keys = random.bytes(32 * chunks)
    store = _native.RemoteStore.open(url, lambda *_: None, connections=1)
    assert store.write(keys, memory, SLOT_BYTES, PAYLOAD_BYTES) == chunks
    return keys
