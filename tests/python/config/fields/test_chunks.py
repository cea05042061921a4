# SPDX-License-Identifier: Apache-2.0
"""Settings of what is cached: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.chunks import ChunkOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("chunk_size", 1, 1),
        ("ttl", 3600, 3600),
        ("ttl", None, None),
        ("retrieval_mode", "semantic", "semantic"),
        ("chunk_size", None, 256),  # absent falls back
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in ChunkOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("chunk_size", 0, "a whole number of tokens from 1"),
        ("chunk_size", -1, "a whole number of tokens from 1"),
        ("chunk_size", 2.5, "a whole number"),
        ("chunk_size", True, "a whole number"),
        ("chunk_size", "many", "a whole number"),
        ("chunk_size", "256", "remove the quotes"),
        ("chunk_size", [256], "a whole number"),
        ("ttl", -1, "seconds above 0"),
        ("ttl", 0, "seconds above 0"),
        ("min_retrieve_tokens", -1, "0 or more"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in ChunkOptions.model_fields
    assert allowed in refusal(name, written)
