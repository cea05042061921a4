# SPDX-License-Identifier: Apache-2.0
"""KV that tells which tokens it belongs to, as arrays for the Python API."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=3, kv_heads=2, head_dim=8, dtype="float32")
NOTHING = 99  # a value that no KV has


def kv_of(tokens: Any, geometry: KVGeometry = GEOMETRY) -> np.ndarray[Any, Any]:
    """Return KV as a model would compute it: that of a token depends on all tokens before it."""
    ids = np.asarray(tokens, np.int64)
    state = np.cumsum((ids + 1) * 2654435761 % 1000003).astype(np.float64)
    planes = np.arange(geometry.planes).reshape(geometry.layers, 2, 1, 1, 1)
    inner = np.arange(geometry.kv_heads * geometry.head_dim)
    heads = inner.reshape(1, 1, 1, geometry.kv_heads, geometry.head_dim)
    values = np.sin(state.reshape(1, 1, -1, 1, 1) + planes * 7 + heads)
    return np.ascontiguousarray(values.astype(geometry.dtype))


def empty_kv(tokens: int, geometry: KVGeometry = GEOMETRY) -> np.ndarray[Any, Any]:
    """Return an array to retrieve into."""
    return np.full(geometry.shape(tokens), NOTHING, geometry.dtype)


def is_kv_of(out: np.ndarray[Any, Any], tokens: Any) -> bool:
    """Tell whether the first tokens of an array hold exactly their KV."""
    count = len(tokens)
    return bool((out[:, :, :count] == kv_of(tokens)).all())


def is_untouched(out: np.ndarray[Any, Any], first: int) -> bool:
    """Tell whether nothing was written from token `first` on."""
    return bool((out[:, :, first:] == NOTHING).all())
