# SPDX-License-Identifier: Apache-2.0
"""What the native engine of one half counted, as differences, under the names of `stats`.

The engine of each half counts for itself, so the halves' differences add up to this vLLM's, and
other engines on the same segment are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmcache.errors import LMCacheError

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.geometry import EngineGeometry
    from lmcache.integration.vllm.stats import LMCacheStats

_S_PER_NS = 1e-9

# The engine's name -> ours and the factor between them. What vLLM's own calls tell better (hits,
# loads) is counted by the halves.
NAMES: dict[str, tuple[str, float]] = {
    "lookup_ns": ("lookup_seconds", _S_PER_NS),
    "stored_chunks": ("stored_chunks", 1),
    "stored_bytes": ("stored_bytes", 1),
    "store_ns": ("store_seconds", _S_PER_NS),
    "request_hit_tokens": ("retrieved_tokens", 1),  # counted on one rank when a load arrived
    "disk_dropped_writes": ("disk_failed_dropped", 1),
    "disk_write_errors": ("disk_failed_write", 1),
    "disk_read_errors": ("disk_failed_read", 1),
    "disk_corrupt_chunks": ("disk_failed_corrupt", 1),
    "remote_dropped_writes": ("remote_failed_dropped", 1),
    "remote_write_errors": ("remote_failed_write", 1),
    "remote_read_errors": ("remote_failed_read", 1),
    "remote_corrupt_chunks": ("remote_failed_corrupt", 1),
    **{
        name: (name, 1)
        for name in (
            "evicted_chunks",
            "evicted_bytes",
            "expired_chunks",
            "device_stored_chunks",
            "device_loaded_chunks",
            "device_loaded_bytes",
            "device_evicted_chunks",
            "disk_read_chunks",
            "disk_read_bytes",
            "disk_written_chunks",
            "disk_written_bytes",
            "remote_read_chunks",
            "remote_read_bytes",
            "remote_written_chunks",
            "remote_written_bytes",
            "loads_declined",
            "loads_abandoned",
        )
    },
    **{
        f"dropped_stores_{reason}": (f"dropped_{reason}", 1)
        for reason in (  # a duplicate was there already: nothing was lost
            "no_space",
            "too_large",
            "lane_undeclared",
            "lock_timeout",
            "cancelled",
            "copy_failed",
        )
    },
    **{
        f"load_failures_{reason}": (f"load_failed_{reason}", 1)
        for reason in ("gone", "cancelled", "timeout", "copy_failed")
    },
}


def tokens_share(geometry: EngineGeometry) -> float:
    """Return which part of the tokens a rank stores are tokens of requests: it stores them once per
    group of layers, and so does every other rank.
    """
    return 1 / len(geometry.groups) if geometry.counts_requests else 0.0


class NativeCounters:
    """One thread. A call costs 1 us when nothing was counted, else some 50 us."""

    def __init__(self, engine: _native.Engine, tokens_share: float = 0.0) -> None:
        """`tokens_share`: which part of the tokens that this engine stores counts as tokens of
        requests; 0 on all ranks but the one that speaks for all, since each stores the same.
        """
        self._engine = engine
        self._names = dict(NAMES)
        self._speaks = tokens_share > 0
        if self._speaks:
            self._names["stored_tokens"] = ("stored_tokens", tokens_share)
        self._before: dict[str, int] = {}
        self._total = 0

    def add_to(self, stats: LMCacheStats) -> None:
        """Count what was added since the last call."""
        try:
            total = self._engine.stats_total()
            if total != self._total:  # most steps count nothing
                self._total = total
                self._count(self._engine.stats(), stats)
        except LMCacheError:  # closed: it counts no more
            return
        if self._speaks:
            stats.observe_loads()

    def _count(self, now: dict[str, int], stats: LMCacheStats) -> None:
        before, self._before = self._before, now
        for name, (ours, factor) in self._names.items():
            grown = now[name] - before.get(name, 0)
            if grown:
                stats.add(**{ours: grown * factor})
