# SPDX-License-Identifier: Apache-2.0
"""What is written down of each request when vLLM admits it: `lmcache explain` reads it.

Names, counts and hashes, never a token. A few microseconds per request, none per step. A trace that
cannot be written is nobody's misfortune: tracing stops, and the request goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm.request_state import RequestState, is_cacheable

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.config import LMCacheConfig

log = logging.getLogger("vllm.lmcache")

_MOST = 2**32 - 1


@dataclass
class _Seen:
    """What the look-ups of a waiting request came to."""

    outcome: str
    note: str = ""
    limit: int = 0
    computed: int = 0
    memory: int = 0  # tokens found by the first look-up
    found: int = 0  # by the last one
    wait_s: float = 0.0


class RequestTraces:
    """One thread: the scheduler's."""

    def __init__(self, engine: _native.Engine, config: LMCacheConfig) -> None:
        self._engine = engine
        self._whole_chunks_only = not config.save_unfull_chunk
        self._min_retrieve_tokens = config.min_retrieve_tokens
        self._seen: dict[str, _Seen] = {}
        self._broken = False
        self.off_because = ""  # set: the engine goes on without the cache

    def skipped(self, state: RequestState, limit: int, *, paused: bool) -> None:
        """Note that a request is not looked up."""
        if paused:
            seen = _Seen("paused", "loads failed several times in a row")
        elif limit < 1:
            seen = _Seen("skipped", "its only token must be computed anyway")
        else:
            seen = _Seen("skipped", "it must not read a prefix cache (prompt_logprobs, pooling)")
        seen.limit = max(0, limit)
        self._seen[state.request_id] = seen

    def found(self, state: RequestState, *, limit: int, computed: int, wait_s: float) -> None:
        """Note what a look-up found in memory; the last one before the request is admitted counts.

        `wait_s`: how long the request waited for tiers below before it.
        """
        tokens = 0 if state.hit is None else int(state.hit.prefix_tokens)
        before = self._seen.get(state.request_id)
        waited = before is not None and before.outcome == "looked_up" and wait_s > 0
        seen = _Seen("looked_up", limit=limit, computed=computed, memory=tokens, found=tokens)
        if waited and before is not None:
            seen.memory, seen.wait_s = before.memory, before.wait_s + wait_s
        self._seen[state.request_id] = seen

    def admitted(self, state: RequestState, loaded: int) -> None:
        """Write down a request that vLLM has given blocks."""
        seen = self._seen.pop(state.request_id, None)
        if state.failed_ahead:
            seen = _Seen("load_failed", "see load_failures of `lmcache status`")
        elif seen is None:
            outcome = "off" if self.off_because else "not_ready"
            seen = _Seen(outcome, self.off_because or "the cache was cleared while it waited")
        new = min(seen.found, seen.limit) - seen.computed
        if seen.outcome == "looked_up" and not loaded and 0 < new < self._min_retrieve_tokens:
            seen.outcome, seen.note = "too_few", f"min_retrieve_tokens {self._min_retrieve_tokens}"
        self._write(state.request, seen, loaded, state.namespace, state.prompt)

    def untouched(self, request: Any) -> None:
        """Write down a request of which nothing is known: it was not to be looked up."""
        if self.off_because:
            seen = _Seen("off", self.off_because)
        elif not is_cacheable(request):
            seen = _Seen("not_cacheable", "embeddings or a streamed session, not token ids alone")
        else:
            seen = _Seen("not_ready", "not every rank had registered its KV, or it was cleared")
        self._write(request, seen, 0, None, None)

    def load_failed(self, state: RequestState) -> None:
        """Write down that what was promised to vLLM did not arrive, and is computed."""
        seen = _Seen("load_failed", "see load_failures of `lmcache status`")
        self._write(state.request, seen, 0, state.namespace, state.prompt)

    def forget(self, request_id: str) -> None:
        """Drop what is known of a request that ended while it waited."""
        self._seen.pop(request_id, None)

    def _write(
        self,
        request: Any,
        seen: _Seen,
        loaded: int,
        namespace: _native.Namespace | None,
        prompt: _native.Prompt | None,
    ) -> None:
        if self._broken:
            return
        wait_us = min(_MOST, int(seen.wait_s * 1e6))
        tokens = int(request.num_tokens)
        try:
            self._engine.trace_request(
                str(request.request_id),
                seen.outcome,
                namespace,
                prompt,
                (tokens, seen.limit, seen.computed, seen.memory, seen.found, loaded, wait_us),
                min(255, int(request.num_preemptions)),
                self._whole_chunks_only,
                seen.note,
            )
        except Exception as error:
            self._broken = True
            log.warning("LMCache: `lmcache explain` will know of no more requests: %s", error)
