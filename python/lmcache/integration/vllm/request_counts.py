# SPDX-License-Identifier: Apache-2.0
"""What the scheduler half counts about requests: which tier their tokens came from, and how full
the tiers are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.errors import LMCacheError
from lmcache.integration.vllm.native_counters import NativeCounters
from lmcache.integration.vllm.stats import LMCacheStats

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.request_state import RequestState

# Reading the state of the tiers takes some 60 us, reading the counters 30 in the midst of a model's
# work. Most steps only decode.
_GAUGES_EVERY_S = 1.0
_COUNTED_EVERY_S = 0.1

TIERS = ("dram", "disk", "remote")


@dataclass(frozen=True)
class _Waiting:
    """A request that waits for what lies below the memory, and what had come from there before."""

    memory_tokens: int
    disk_tokens: int
    remote_tokens: int


class RequestCounts:
    """One thread: the scheduler's."""

    def __init__(
        self,
        engine: _native.Engine,
        stats: LMCacheStats,
        *,
        has_remote: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._stats = stats
        self._clock = clock
        self._native = NativeCounters(engine)
        self._has_disk = engine.has_lower_tier and engine.status().get("disk") is not None
        self._has_remote = engine.has_lower_tier and (has_remote or not self._has_disk)
        self._waiting: dict[str, _Waiting] = {}
        self._last: tuple[str, dict[str, int]] = ("", {})
        self._next_gauges = self._next_count = clock()

    def waits(self, request_id: str, memory_tokens: int) -> None:
        """Note that a request, whose first tokens lie in memory, waits for what follows."""
        self._waiting[request_id] = _Waiting(memory_tokens, *self._arrived())

    def forget(self, request_id: str) -> None:
        """Note that a request ended."""
        self._waiting.pop(request_id, None)

    def admitted(self, state: RequestState, external_tokens: int) -> None:
        """Count a request that was looked up and that vLLM has given blocks."""
        taken = self._by_tier(state, external_tokens)
        self._last = (state.request_id, taken)
        limit = int(state.request.num_tokens) - 1  # what could be reused at best
        self._stats.add(
            lookups=1,
            lookup_tokens=state.asked_tokens,
            hit_tokens=external_tokens,
            hit_requests=1 if external_tokens else 0,
            prompt_tokens=limit + 1,
            engine_hit_tokens=max(0, limit - state.asked_tokens),
            **{f"{tier}_hit_tokens": tokens for tier, tokens in taken.items()},
        )
        self._stats.observe(request_hit_rates=min(1.0, external_tokens / state.asked_tokens))

    def tiers_of(self, request_id: str, external_tokens: int) -> dict[str, int]:
        """Return where the tokens of the request admitted last came from; empty for another."""
        last_id, taken = self._last
        if last_id != request_id or sum(taken.values()) != external_tokens:
            return {}
        return taken

    def take(self, *, healthy: bool, idle: bool) -> LMCacheStats | None:
        """Return what was counted since the last call. Counters of the engine are read when
        requests were counted, and now and then; the gauges now and then; both whenever no request
        is left, so that they are right while the engine rests.
        """
        now = self._clock()
        if not idle and self._stats.is_empty() and now < self._next_count:
            return None
        self._next_count = now + _COUNTED_EVERY_S
        self._native.add_to(self._stats)
        if idle or now >= self._next_gauges:
            self._next_gauges = now + _GAUGES_EVERY_S
            self._stats.put(healthy=float(healthy), **self._gauges())
        return self._stats.take()

    def _gauges(self) -> dict[str, float]:
        try:
            status: dict[str, Any] = self._engine.status()
        except LMCacheError:  # closed, or too busy to answer
            return {}
        gauges = {
            "dram_used_bytes": status["used_bytes"],
            "dram_capacity_bytes": status["capacity_bytes"],
            "dram_chunks": status["ready"],
            "leased_chunks": status["leased"],
        }
        disk = status.get("disk")
        if disk is not None:
            gauges |= {
                "disk_used_bytes": disk["used_bytes"],
                "disk_limit_bytes": disk["limit_bytes"],
            }
        return gauges

    def _arrived(self) -> tuple[int, int]:
        try:
            counters = self._engine.stats()
        except LMCacheError:  # closed
            return 0, 0
        return counters["disk_hit_tokens"], counters["remote_hit_tokens"]

    def _by_tier(self, state: RequestState, tokens: int) -> dict[str, int]:
        """Split the tokens a request takes by where they lay when it asked."""
        waiting = self._waiting.pop(state.request_id, None)
        if not tokens:
            return {}
        if waiting is None:
            return {"dram": tokens}
        memory = min(tokens, max(0, waiting.memory_tokens - state.load_from))
        fetched = tokens - memory
        split = {"dram": memory, **self._below(waiting, fetched)}
        return {tier: count for tier, count in split.items() if count}

    def _below(self, waiting: _Waiting, tokens: int) -> dict[str, int]:
        """Split what a request waited for. With both tiers, as what arrived in the meantime: exact
        for a request that waited alone.
        """
        if not (self._has_disk and self._has_remote):
            return {"disk" if self._has_disk else "remote": tokens}
        disk, remote = self._arrived()
        disk, remote = disk - waiting.disk_tokens, remote - waiting.remote_tokens
        of_disk = tokens * disk // (disk + remote) if disk + remote else tokens
        return {"disk": of_disk, "remote": tokens - of_disk}
