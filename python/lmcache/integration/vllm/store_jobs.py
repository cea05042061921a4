# SPDX-License-Identifier: Apache-2.0
"""The stores of one rank that are under way, by request: whose blocks may not be given away yet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lmcache.integration.vllm.step_plan import StorePlan

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.device_stream import DeviceStream
    from lmcache.integration.vllm.geometry import EngineGeometry


class StoreJobs:
    """One thread: the model runner's."""

    def __init__(
        self, engine: _native.Engine, stream: DeviceStream, geometry: EngineGeometry
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._geometry = geometry
        self._jobs: dict[str, list[tuple[int, list[int]]]] = {}  # request -> (job, slots)
        self._late: dict[str, list[tuple[Sequence[int], StorePlan]]] = {}  # not submitted yet
        # Jobs that read blocks which vLLM takes away while their request runs.
        self._windowed: list[int] = []
        self._dropped_refs: list[int] = []

    def start(self, views: Sequence[int], store: StorePlan, *, spoilt: bool) -> None:
        """Submit a store, a job per group, or give its slots back when what it would store is
        wrong. One that is late waits for `start_late` if the host copies it, unless the next
        step would wait for it.
        """
        waits = self._stream.waits_on_device or self._geometry.has_window
        if store.late and not spoilt and not waits:
            self._late.setdefault(store.request_id, []).append((views, store))
        else:
            self._submit(views, store, spoilt=spoilt)

    def start_late(self) -> None:
        """Submit what waits for the next step."""
        while self._late:
            for views, store in self._late.pop(next(iter(self._late))):
                self._submit(views, store, spoilt=False)

    def _submit(self, views: Sequence[int], store: StorePlan, *, spoilt: bool) -> None:
        for index, group in enumerate(self._geometry.groups):
            items = store.items(self._geometry.lane(index), index)
            if not items:
                continue
            refs = [ref for ref, _ in items]
            if spoilt:
                self._engine.cancel(refs)
                self._dropped_refs += refs
                continue
            job = self._stream.submit_store(self._engine, views[index], items)
            self._jobs.setdefault(store.request_id, []).append((job, refs))
            if group.window_tokens:
                self._windowed.append(job)

    @property
    def busy(self) -> bool:
        """Whether copies are under way, or were when this object looked last."""
        return bool(self._jobs or self._late)

    def ended(self, request_id: str) -> bool:
        """Whether no copy of a request is under way any more."""
        if request_id in self._late:
            return False
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
            self._end([job for job, _ in self._jobs.get(request_id, [])], deadline)
            self.ended(request_id)

    def settle_windows(self, deadline_s: float) -> None:
        """End the copies out of blocks that a window may have passed since: others get them now."""
        jobs, self._windowed = self._windowed, []
        open_jobs = {job for entries in self._jobs.values() for job, _ in entries}
        self._end([job for job in jobs if job in open_jobs], time.monotonic() + deadline_s)

    def _end(self, jobs: Iterable[int], deadline: float) -> None:
        for job in jobs:
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            if not self._engine.wait(job, left_ms):
                self._engine.cancel_job(job)

    def settle_all(self, deadline_s: float) -> None:
        """End all copies."""
        self.start_late()
        self.settle(list(self._jobs), deadline_s)

    def take_dropped_refs(self) -> list[int]:
        """Return the slots that turned out since the last call not to be filled."""
        dropped, self._dropped_refs = self._dropped_refs, []
        return dropped

    def _take(self, entry: tuple[int, list[int]]) -> bool:
        job, refs = entry
        if not self._engine.poll(job):
            return False
        failed = self._engine.finish(job)
        self._dropped_refs += [refs[index] for index in failed]
        return True
