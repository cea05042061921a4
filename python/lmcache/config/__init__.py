# SPDX-License-Identifier: Apache-2.0
"""Configuration: one frozen model, two dialects, four sources."""

from __future__ import annotations

from lmcache.config.availability import eviction_in_use, unavailable_line
from lmcache.config.capacity import available_memory_bytes, capacity_bytes
from lmcache.config.load import load_config
from lmcache.config.model import LMCacheConfig
from lmcache.config.segment import SegmentPlace, segment_place
from lmcache.config.sources import Source

__all__ = [
    "LMCacheConfig",
    "SegmentPlace",
    "Source",
    "available_memory_bytes",
    "capacity_bytes",
    "eviction_in_use",
    "load_config",
    "segment_place",
    "unavailable_line",
]
