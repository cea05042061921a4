# SPDX-License-Identifier: Apache-2.0
"""Suggestions: close names yes, guesses no."""

from __future__ import annotations

import pytest

from lmcache.config.near_miss import near_miss

KNOWN = ("chunk_size", "local_cpu", "ttl", "LMCACHE_TTL")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("chunksize", "chunk_size"),
        ("chunk-size", "chunk_size"),
        ("CHUNK_SIZE", "chunk_size"),
        ("local_cpus", "local_cpu"),
        ("LMCACHE_TTLS", "LMCACHE_TTL"),
    ],
)
def test_near(written: str, meant: str) -> None:
    assert near_miss(written, KNOWN) == f'; did you mean "{meant}"?'


@pytest.mark.parametrize("written", ["", "port", "gds_path", "remote"])
def test_far(written: str) -> None:
    assert near_miss(written, KNOWN) == ""
