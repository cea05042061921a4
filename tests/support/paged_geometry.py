# SPDX-License-Identifier: Apache-2.0
"""The geometry of `PagedModel`, as vLLM's configuration would say it."""

from __future__ import annotations

from typing import Any

from paged_model import BLOCK, CHUNK, LAYERS

from lmcache.integration.vllm.geometry import EngineGeometry, GroupGeometry
from lmcache.integration.vllm.model_identity import ModelIdentity


def geometry(
    world: int = 1, rank: int = 0, page_bytes: int = BLOCK * 8, **changes: Any
) -> EngineGeometry:
    """Return the geometry of `PagedModel`."""
    names = tuple(f"layer{i}" for i in range(LAYERS))
    values: dict[str, Any] = {
        "identity": ModelIdentity("paged", "1", ""),
        "dtype": "uint64",
        "layout": "plain",
        "details": "",
        "groups": (GroupGeometry(names, (page_bytes,) * LAYERS, BLOCK),),
        "chunk_tokens": CHUNK,
        "ranks": world,
        "rank": rank,
        "owns_lanes": True,
    }
    return EngineGeometry(**{**values, **changes})
