# SPDX-License-Identifier: Apache-2.0
"""The segment that a configuration names, seen from outside: nothing here joins it."""

from __future__ import annotations

from typing import Any

from lmcache import _native
from lmcache.config import LMCacheConfig, SegmentPlace
from lmcache.errors import UnavailableError


def segment_path(place: SegmentPlace) -> str | None:
    """Return the file of a segment; None for a private one, which has no name."""
    return None if place.private else _native.segment_path(place.name, place.directory)


def node_segment(config: LMCacheConfig) -> dict[str, Any] | None:
    """Return the status of the segment that `config` names; None when there is none.

    Raises `LMCacheError` when it is not ours or cannot be read.
    """
    path = segment_path(config.segment_place)
    if path is None:
        return None
    try:
        return _native.inspect_segment(path)
    except UnavailableError:
        return None
