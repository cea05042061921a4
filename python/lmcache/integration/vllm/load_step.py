# SPDX-License-Identifier: Apache-2.0
"""The loads of one step: submitted together, waited for at once or layer by layer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmcache.integration.vllm.device_stream import ALL_PLANES
from lmcache.integration.vllm.step_plan import LoadPlan

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.device_stream import DeviceStream

log = logging.getLogger("vllm.lmcache")

Item = tuple[int, int, list[int]]  # slot, first block of the chunk, block ids


class LoadStep:
    """Of an engine with one group. One thread: the model runner's."""

    def __init__(
        self, engine: _native.Engine, stream: DeviceStream, view: int, deadline_s: float
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._view = view
        self._deadline_s = deadline_s
        self._jobs: list[tuple[int, list[Item]]] = []
        self._streaming = 0  # the job that the model waits for, not the host
        self._layerwise = False  # plane by plane, as `wait_plane` says
        self._began = 0.0
        self._bad: set[int] = set()
        self.blocks = 0
        self.seconds = 0.0

    @property
    def ends_later(self) -> bool:
        """Whether the step may be computed before `end`: the model waits for what it needs."""
        return self._streaming != 0

    def start(self, loads: Sequence[LoadPlan], lane: int, *, layerwise: bool) -> None:
        """Submit everything. With `layerwise` this waits only for the last blocks of partly reused
        ones; without it, for everything if the device can.
        """
        self._began = time.perf_counter()
        whole: list[Item] = []
        shared: list[Item] = []
        for load in loads:
            items = list(load.items(lane, 0))
            self.blocks += sum(len(blocks) for _, _, blocks in items)
            # vLLM writes the step's own tokens into a block before it waits for the layer: that
            # block must be there in full, or the load would overwrite them.
            if layerwise and load.shares_last_block:
                ref, first, blocks = items.pop()
                shared.append((ref, first + len(blocks) - 1, blocks[-1:]))
                if len(blocks) > 1:
                    items.append((ref, first, blocks[:-1]))
            whole += items
        shared_job = self._submit(shared)
        job = self._submit(whole)
        if layerwise or self._stream.waits_on_device:
            self._streaming = job
            self._layerwise = layerwise and job != 0
            if shared_job:
                self._wait_planes(shared_job, ALL_PLANES)
            if not layerwise and job:
                self._wait_planes(job, ALL_PLANES)

    def _submit(self, items: list[Item]) -> int:
        missing = [item for item in items if not item[0]]
        self._bad.update(block for _, _, blocks in missing for block in blocks)
        items = [item for item in items if item[0]]
        if not items:
            return 0
        job = self._stream.submit_load(self._engine, self._view, items)
        self._jobs.append((job, items))
        return job

    def wait_plane(self, plane: int) -> None:
        """Let the model wait until planes 0..`plane` have arrived, or return when it is clear that
        they will not.
        """
        if self._layerwise:
            self._wait_planes(self._streaming, plane)

    def _wait_planes(self, job: int, plane: int) -> None:
        if self._stream.wait_plane(self._engine, job, plane, self._deadline_ms):
            return
        if not self._engine.poll(job):
            self._cancel(job)

    def end(self) -> set[int]:
        """Wait for everything; return the blocks that hold nothing of use."""
        for job, items in self._jobs:
            self._wait(job)
            for index in self._engine.finish(job):
                self._bad.update(items[index][2])
        self._jobs.clear()
        self._streaming, self._layerwise = 0, False
        self.seconds = time.perf_counter() - self._began
        return self._bad

    def _wait(self, job: int) -> None:
        if not self._engine.wait(job, self._deadline_ms):
            self._cancel(job)

    def _cancel(self, job: int) -> None:
        """Drop what has not arrived. No block is written to any more when this returns."""
        log.warning("LMCache: a load took over %.0f s, recomputing the rest", self._deadline_s)
        self._engine.cancel_job(job)

    @property
    def _deadline_ms(self) -> int:
        return int(self._deadline_s * 1000)
