# SPDX-License-Identifier: Apache-2.0
"""LMCache: the KV-cache layer beside an LLM serving engine.

Importing this package costs a few milliseconds and needs neither torch nor vLLM nor the native
library: the public names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmcache.config import LMCacheConfig as LMCacheConfig
    from lmcache.config import load_config as load_config
    from lmcache.engine import LMCacheEngine as LMCacheEngine
    from lmcache.observe import get_cache_stats as get_cache_stats
    from lmcache.types import KVGeometry as KVGeometry

__version__ = "0.1.0"

__all__ = [
    "KVGeometry",
    "LMCacheConfig",
    "LMCacheEngine",
    "__version__",
    "cmake_dir",
    "get_cache_stats",
    "include_dir",
    "load_config",
]

# Public name -> the module that defines it.
_LAZY = {
    "KVGeometry": "lmcache.types",
    "LMCacheConfig": "lmcache.config",
    "LMCacheEngine": "lmcache.engine",
    "get_cache_stats": "lmcache.observe",
    "load_config": "lmcache.config",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562) and keep it, so that this runs once per name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def include_dir() -> str:
    """Return the folder with the C++ headers of this installation."""
    return _installed("include", "lmcache")


def cmake_dir() -> str:
    """Return the folder to put on `CMAKE_PREFIX_PATH` for `find_package(lmcache)`."""
    return _installed("lib/cmake/lmcache", "lmcacheConfig.cmake")


def _installed(folder: str, witness: str) -> str:
    from pathlib import Path  # here, since it would double the time to import this package

    # An editable installation has two roots: the sources, and the folder with what was compiled.
    roots = [Path(root) for root in __path__]
    for root in roots:
        if (root / folder / witness).exists():
            return str((root / folder).resolve())
    missing = roots[0] / folder / witness
    raise FileNotFoundError(
        f"{missing} does not exist: this is a source tree, not an installed lmcache; "
        "run `pip install .` first"
    )
