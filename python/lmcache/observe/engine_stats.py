# SPDX-License-Identifier: Apache-2.0
"""What one engine of this process counts, and which engines there are.

`get_cache_stats()` sums up the engines that are open in this process, so each registers itself; the
set holds weak references and is the only state of a module in this package.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import Any

from lmcache import _native

_NS_PER_S = 1_000_000_000


class EngineStats:
    """The counters of a native engine, kept where every process of the node can read them.

    Whoever opens a native engine makes one of these and keeps it as long. Thread-safe.
    """

    def __init__(self, engine: _native.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()  # guards _failures
        self._failures: Counter[str] = Counter()
        with _registry_lock:
            _registry.add(self)

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Count prompt tokens that were computed, and the time that took."""
        self._engine.count_prefill(tokens, _nanoseconds(seconds))

    def record_request(self, prompt_tokens: int, hit_tokens: int, load_seconds: float) -> None:
        """Count a request that was answered: its prompt, how much of it came out of the cache, and
        how long the request waited for that.
        """
        self._engine.count_request(prompt_tokens, hit_tokens, _nanoseconds(load_seconds))

    def record_failure(self, code: str) -> None:
        """Count an error that became a miss; `code` is that of an `LMCacheError`."""
        with self._lock:
            self._failures[code] += 1

    @property
    def closed(self) -> bool:
        """True when the engine was closed: it counts no more."""
        return self._engine.closed

    def counters(self) -> dict[str, int]:
        """Return what this engine counted; `ClosedError` after its end."""
        return self._engine.stats()

    def failures(self) -> dict[str, int]:
        """Return how many errors became misses, by code."""
        with self._lock:
            return dict(self._failures)

    def segment(self) -> dict[str, Any]:
        """Return the status of the whole segment (see `lmcache status --json`)."""
        return self._engine.status()


_registry: weakref.WeakSet[EngineStats] = weakref.WeakSet()
_registry_lock = threading.Lock()


def open_engines() -> list[EngineStats]:
    """Return the engines that are open in this process."""
    with _registry_lock:
        engines = list(_registry)
    return [engine for engine in engines if not engine.closed]


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * _NS_PER_S))
