# SPDX-License-Identifier: Apache-2.0
"""Loads that requests wait for in vLLM's queue: no step waits for them, others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmcache.integration.vllm.step_plan import LoadPlan

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.device_stream import DeviceStream
    from lmcache.integration.vllm.geometry import EngineGeometry
    from lmcache.integration.vllm.stats import LMCacheStats

log = logging.getLogger("vllm.lmcache")


@dataclass
class _Waiting:
    """A request, its jobs (one per group of layers), and since when."""

    load: LoadPlan
    jobs: list[int]
    size_bytes: int
    since: float
    failed: bool = False


class AsyncLoads:
    """One thread: the model runner's."""

    def __init__(
        self,
        engine: _native.Engine,
        stream: DeviceStream,
        geometry: EngineGeometry,
        views: Sequence[int],
        deadline_s: float,
        stats: LMCacheStats,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._geometry = geometry
        self._views = views
        self._deadline_s = deadline_s
        self._stats = stats
        self._waiting: dict[str, _Waiting] = {}

    def start(self, load: LoadPlan) -> None:
        """Submit the load of a request, in all groups of layers; returns at once."""
        waiting = _Waiting(load, [], 0, time.perf_counter())
        self._waiting[load.request_id] = waiting
        for index, group in enumerate(self._geometry.groups):
            items = list(load.items(self._geometry.lane(index), index))
            if not all(ref for ref, _, _ in items):
                waiting.failed = True
                return
            if items:
                view = self._views[index]
                waiting.jobs.append(self._stream.submit_load(self._engine, view, items))
                waiting.size_bytes += group.block_bytes * sum(len(item[2]) for item in items)

    @property
    def busy(self) -> bool:
        """Whether there are requests that wait for their loads."""
        return bool(self._waiting)

    def take_ended(self) -> tuple[set[str], set[str]]:
        """Return the requests whose loads have ended since the last call, and which of them failed.

        No block of these is written to any more.
        """
        ended: set[str] = set()
        failed: set[str] = set()
        for request_id, waiting in list(self._waiting.items()):
            if not self._over(waiting):
                continue
            del self._waiting[request_id]
            ended.add(request_id)
            if waiting.failed:
                failed.add(request_id)
            self._count(waiting)
        return ended, failed

    def abandon(self) -> Iterable[str]:
        """Forget all of them; return whose loads they were. For an engine that does not answer."""
        waiting, self._waiting = list(self._waiting), {}
        return waiting

    def _over(self, waiting: _Waiting) -> bool:
        late = time.perf_counter() - waiting.since > self._deadline_s
        for job in list(waiting.jobs):
            if not self._engine.poll(job):
                if not late:
                    return False
                log.warning("LMCache: a load took over %.0f s, recomputing", self._deadline_s)
                self._engine.cancel_job(job)
            waiting.failed = bool(self._engine.finish(job)) or waiting.failed
            waiting.jobs.remove(job)
        return True

    def _count(self, waiting: _Waiting) -> None:
        seconds = time.perf_counter() - waiting.since
        load = waiting.load
        if waiting.failed:
            blocks = sum(len(item[2]) for item in load.items(self._geometry.lane(0), 0))
            self._stats.add(failed_blocks=blocks)
            return
        self._stats.add(
            loads=1,
            load_seconds=seconds,
            loaded_bytes=waiting.size_bytes,
            loaded_tokens=load.hit_tokens,
        )
        if self._geometry.counts_requests:
            self._engine.count_request(load.asked_tokens, load.hit_tokens, int(seconds * 1e9))
