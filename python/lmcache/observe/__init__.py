# SPDX-License-Identifier: Apache-2.0
"""What the cache does, in figures."""

from __future__ import annotations

from lmcache.errors import native_missing

try:
    from lmcache import _native as _native
except ImportError as error:
    raise native_missing(error) from error

from lmcache.observe.cache_stats import get_cache_stats
from lmcache.observe.engine_stats import EngineStats

__all__ = ["EngineStats", "get_cache_stats"]
