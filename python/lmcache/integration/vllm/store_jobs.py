# SPDX-License-Identifier: Apache-2.0
"""The stores of one rank that are under way, by request: whose blocks may not be given away yet."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lmcache.integration.vllm.step_plan import StorePlan

if TYPE_CHECKING:
    from lmcache import _native


class StoreJobs:
    """One thread: the model runner's."""

    def __init__(self, engine: _native.Engine, lane: int) -> None:
        self._engine = engine
        self._lane = lane
        self._jobs: dict[str, list[tuple[int, int]]] = {}  # request -> (job, chunks)
        self._stored = 0
        self._dropped = 0

    def start(self, view: int, store: StorePlan, *, spoilt: bool) -> None:
        """Submit a store, or give its slots back when what it would store is wrong."""
        items = store.items(self._lane)
        if not items:
            return
        if spoilt:
            self._engine.cancel([ref for ref, _ in items])
            self._dropped += len(items)
            return
        job = self._engine.submit_store(view, items)
        self._jobs.setdefault(store.request_id, []).append((job, len(items)))

    def ended(self, request_id: str) -> bool:
        """Whether no copy of a request is under way any more."""
        jobs = self._jobs.get(request_id)
        if jobs is None:
            return True
        left = [entry for entry in jobs if not self._take(entry)]
        if left:
            self._jobs[request_id] = left
        else:
            del self._jobs[request_id]
        return not left

    def reap(self) -> None:
        """Forget the jobs that are over."""
        for request_id in list(self._jobs):
            self.ended(request_id)

    def settle(self, request_ids: Iterable[str], deadline_s: float) -> None:
        """End all copies of these requests: wait for them, then drop what is left of them."""
        deadline = time.monotonic() + deadline_s
        for request_id in request_ids:
            for job, _ in self._jobs.get(request_id, []):
                left_ms = max(1, int((deadline - time.monotonic()) * 1000))
                if not self._engine.wait(job, left_ms):
                    self._engine.cancel_job(job)
            self.ended(request_id)

    def settle_all(self, deadline_s: float) -> None:
        """End all copies."""
        self.settle(list(self._jobs), deadline_s)

    def take_counts(self) -> tuple[int, int]:
        """Return the chunks stored and dropped since the last call."""
        counts = self._stored, self._dropped
        self._stored = self._dropped = 0
        return counts

    def _take(self, entry: tuple[int, int]) -> bool:
        job, chunks = entry
        if not self._engine.poll(job):
            return False
        failed = len(self._engine.finish(job))
        self._stored += chunks - failed
        self._dropped += failed
        return True
