# SPDX-License-Identifier: Apache-2.0
"""The cache as a Python object, and the way to open it natively."""

from __future__ import annotations

from lmcache.errors import native_missing

try:
    from lmcache import _native as _native
except ImportError as error:
    raise native_missing(error) from error

from lmcache.engine.engine import LMCacheEngine
from lmcache.engine.opening import open_native

__all__ = ["LMCacheEngine", "open_native"]
