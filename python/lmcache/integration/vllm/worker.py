# SPDX-License-Identifier: Apache-2.0
"""Worker half of one rank: copies between vLLM's blocks and the slots, as the step plan says.

Its rules:
* A block that vLLM counts as loaded is loaded when the model reads it, or is reported by the end of
  the step. On a GPU the device waits, not the host (`device_stream`).
* Nothing waits for a store, except a request that loses its blocks (preemption).
* What fails here costs a recomputation and one line in the log, never a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmcache.config.capacity import device_pool_bytes
from lmcache.integration.vllm.async_loads import AsyncLoads
from lmcache.integration.vllm.device_stream import HostStream, stream_for
from lmcache.integration.vllm.load_step import LoadStep
from lmcache.integration.vllm.native_counters import NativeCounters, tokens_share
from lmcache.integration.vllm.prefill_speed import PrefillSpeed
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import StepPlan
from lmcache.integration.vllm.store_jobs import StoreJobs
from lmcache.integration.vllm.views import KvViews, read_views
from lmcache.integration.vllm.worker_report import WorkerReport

if TYPE_CHECKING:
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.attachment import Attachment
    from lmcache.integration.vllm.device_stream import DeviceStream

log = logging.getLogger("vllm.lmcache")

_SHUTDOWN_S = 10.0
# How long counters may stay unread while this rank copies nothing: most steps only decode.
_COUNTED_EVERY_S = 0.1
# With `use_layerwise: auto`, loads of fewer bytes are over before the first layers are computed.
_LAYERWISE_FROM_BYTES = 32_000_000


class WorkerHalf:
    """One thread: the model runner's.

    Without an attachment (`None`: refused, or lost) it still answers: every load failed, every copy
    ended. `reason` says why it never had one.
    """

    def __init__(
        self,
        attachment: Attachment | None,
        config: LMCacheConfig,
        vllm_config: Any,
        reason: str = "",
    ) -> None:
        self._attachment = attachment
        self._reasons = [reason] if reason else []
        self._deadline_s = float(config.blocking_timeout_secs)
        self._layerwise = _layerwise_from(config, vllm_config)
        self._asks_for_pool = config.local_device == "cuda" and device_pool_bytes(config) > 0
        self._stream: DeviceStream = HostStream()  # until the KV is registered
        self._stores = (
            StoreJobs(attachment.engine, self._stream, attachment.geometry) if attachment else None
        )
        self._view_ids: list[int] = []  # by group
        self._tensors: Mapping[str, Any] = {}  # keeps the memory of the views alive
        self._views = KvViews((), {})
        self._plan = StepPlan()
        # Nothing is to be done in this step and nothing is under way: most steps only decode.
        self._rests = False
        self.loads: LoadStep | None = None  # under way, and waited for in this step
        self._ahead: AsyncLoads | None = None
        # Requests that wait for a load which will not come, not told to vLLM yet.
        self._lost_requests: set[str] = set()
        self._bad_blocks: set[int] = set()
        self._ended: set[str] = set()
        self._spoilt = False  # what this step computes, by a load that failed
        self._speed = PrefillSpeed()
        self.stats = LMCacheStats()
        self._counters = (
            NativeCounters(attachment.engine, tokens_share(attachment.geometry))
            if attachment
            else None
        )
        self._copied = True  # since the counters were read last
        self._next_count = 0.0

    def register(self, kv_caches: Mapping[str, Any], num_blocks: int) -> None:
        """Take vLLM's KV tensors, which live as long as this object."""
        if self._attachment is None:
            return
        try:
            engine, geometry = self._attachment.engine, self._attachment.geometry
            for group in geometry.groups:
                views = read_views(kv_caches, group.layer_names, num_blocks)
                if views.block_bytes != group.block_bytes:
                    raise ValueError(
                        f"vLLM's tensors hold {views.block_bytes} bytes per block, "
                        f"its configuration says {group.block_bytes}"
                    )
                self._view_ids.append(
                    engine.register_view(
                        views.planes,
                        num_blocks,
                        geometry.stored_block_tokens(group),
                        views.cuda_device,
                    )
                )
                self._views = views  # waited for layer by layer only where there is one group
            if self._asks_for_pool and self._views.cuda_device is None:
                log.warning("LMCache: local_device = cuda: no pool, since the KV is in host memory")
            self._tensors = dict(kv_caches)
            self._stream = stream_for(self._views.cuda_device)
            self._stores = StoreJobs(engine, self._stream, geometry)
            if geometry.loads_ahead:
                self._ahead = AsyncLoads(
                    engine, self._stream, geometry, self._view_ids, self._deadline_s, self.stats
                )
        except Exception as error:
            self._give_up("registering the KV cache", error)

    # The order in which vLLM calls, once per step.

    def free_blocks(self, plan: StepPlan) -> None:
        """End the copies out of blocks that the plan's step gives to others. vLLM may clear these
        before `begin_step`, which does this too: twice costs nothing.
        """
        if self._stores is None or self._attachment is None or not self._stores.busy:
            return
        try:
            self._stores.start_late()
            if plan.preempted:
                self._stores.settle(plan.preempted, self._deadline_s)
            if self._attachment.geometry.has_window:
                self._stores.settle_windows(self._deadline_s)
        except Exception as error:
            self._give_up("ending the copies out of blocks that are taken away", error)

    def begin_step(self, plan: StepPlan) -> None:
        """Take the plan of a step. Copies out of blocks that were taken from a request end before
        it returns.
        """
        self._plan = plan
        self._rests = plan.is_empty and not self._busy()
        if self._rests:
            return
        self._bad_blocks = set(plan.lost_blocks)
        self.loads = None
        self._spoilt = False
        self.free_blocks(plan)
        try:
            # Not when the loads start: vLLM calls for that after the step has computed, if there
            # are none to wait for.
            self._speed.begin(self._stream, 0 if plan.loads else plan.prefill_tokens)
        except Exception as error:
            self._give_up("timing a step", error)

    def _busy(self) -> bool:
        """Whether something is left to do or to tell of former steps."""
        return (
            self._stores is None
            or self._stores.busy
            or self.loads is not None
            or (self._ahead is not None and self._ahead.busy)
            or bool(self._ended or self._lost_requests or self._bad_blocks)
            or self._speed.waits
        )

    def load(self) -> None:
        """Start the loads of the step; wait for all that is not waited for layer by layer, or in
        vLLM's queue.
        """
        if self._rests:
            return
        self._lost_requests.update(self._plan.lost_requests)
        if self._plan.loads:
            if self._attachment is None:
                self._lose_loads()
            else:
                try:
                    self._start_loads(self._attachment)
                except Exception as error:
                    self._give_up("loading", error)

    def _start_loads(self, attachment: Attachment) -> None:
        if self._ahead is not None:
            for load in self._plan.loads:
                self._ahead.start(load)
            return
        size = attachment.geometry.groups[0].block_bytes
        self.loads = LoadStep(attachment.engine, self._stream, self._view_ids[0], self._deadline_s)
        self.loads.start(
            self._plan.loads,
            attachment.geometry.lane(0),
            layerwise=self._layerwise is not None
            and sum(len(ids) for plan in self._plan.loads for ids in plan.block_ids[0]) * size
            >= self._layerwise,
        )
        if not self.loads.ends_later:
            self._end_loads()

    def wait_for_layer(self, layer_name: str) -> None:
        """Wait until the KV of a layer has arrived; at once unless loads go layer by layer."""
        plane = self._views.last_plane.get(layer_name)
        if self.loads is None or plane is None:
            return
        try:
            self.loads.wait_plane(plane)
        except Exception as error:
            self._give_up("loading a layer", error)

    def _end_loads(self) -> None:
        """Wait for the loads and collect what failed."""
        if self.loads is None or self._attachment is None:
            return
        loads, self.loads = self.loads, None
        failed = loads.end()
        group = self._attachment.geometry.groups[0]
        self._bad_blocks |= failed
        self._spoilt = self._spoilt or bool(failed)
        self.stats.add(
            loads=1,
            load_seconds=loads.seconds,
            loaded_bytes=(loads.blocks - len(failed)) * group.block_bytes,
            loaded_tokens=(loads.blocks - len(failed)) * group.block_tokens,
        )
        if not failed and self._attachment.geometry.counts_requests:
            for load in self._plan.loads:
                self._attachment.engine.count_request(
                    load.asked_tokens, load.hit_tokens, int(loads.seconds * 1e9)
                )

    def store(self) -> None:
        """Start the stores of the step; returns at once. Called when the step has computed."""
        if self._rests:
            return
        plan = self._plan
        try:
            self._end_loads()
            if self._bad_blocks:
                self.stats.add(failed_blocks=len(self._bad_blocks))
            if self._bad_blocks or self._spoilt:
                self._speed.drop()
            self._count_prefill()
            if self._stores is not None and self._attachment is not None:
                self._copied = self._copied or self._stores.busy
                self._stores.reap()
                # What this step computed on top of a failed load is wrong, whichever request it
                # belongs to.
                spoilt = self._spoilt or bool(self._bad_blocks)
                owns = self._attachment.geometry.owns_lanes
                for store in plan.stores if owns else ():
                    self._stores.start(self._view_ids, store, spoilt=spoilt and not store.confirmed)
        except Exception as error:
            self._give_up("storing", error)
        self._ended |= set(plan.released)

    def _count_prefill(self) -> None:
        for tokens, seconds in self._speed.end(self._stream):
            self.stats.add(prefill_tokens=tokens, prefill_seconds=seconds)
            if self._attachment is not None and self._attachment.geometry.counts_requests:
                self._attachment.engine.count_prefill(tokens, int(seconds * 1e9))

    def take_ended(self) -> set[str]:
        """Return the finished requests whose copies have ended by now; each is returned once."""
        if self._stores is None:
            ended, self._ended = self._ended, set()
            return ended
        try:
            ended = {rid for rid in self._ended if self._stores.ended(rid)}
        except Exception as error:
            self._give_up("watching a copy", error)
            ended = set(self._ended)
        self._ended -= ended
        return ended

    def take_arrived(self) -> tuple[set[str], set[str]]:
        """Return the requests that wait no more for what they load ahead, and which of them must be
        computed; each is returned once.
        """
        ended, failed = set(self._lost_requests), set(self._lost_requests)
        self._lost_requests.clear()
        if self._ahead is not None:
            try:
                over, bad = self._ahead.take_ended()
                ended |= over
                failed |= bad
            except Exception as error:
                self._give_up("loading ahead", error)
                return self.take_arrived()
        return ended, failed

    def take_bad_blocks(self) -> set[int]:
        """Return the blocks that this step should have loaded and did not.

        With speculative decoding vLLM asks for them before `store`.
        """
        try:
            self._end_loads()
        except Exception as error:
            self._give_up("ending the loads", error)
        self._spoilt = self._spoilt or bool(self._bad_blocks)
        bad, self._bad_blocks = self._bad_blocks, set()
        return bad

    def take_stats(self) -> LMCacheStats | None:
        """Return what was counted since the last call. Counters of the engine are read when this
        rank copied something, and now and then.
        """
        now = time.monotonic()
        if not self._copied and self.stats.is_empty() and now < self._next_count:
            return None
        self._copied, self._next_count = False, now + _COUNTED_EVERY_S
        if self._counters is not None:
            self._counters.add_to(self.stats)
        return self.stats.take()

    def take_report(self) -> WorkerReport | None:
        """Return what the scheduler half should know after this step; mostly nothing."""
        if self._stores is None:
            return WorkerReport(ranks_off=1, reasons=self._reasons)
        dropped = self._stores.take_dropped_refs()
        if not dropped:
            return None
        self.stats.add(dropped_chunks=len(dropped))
        return WorkerReport(dropped)

    def close(self) -> None:
        """End all copies and detach."""
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            return
        try:
            if self._stores is not None:
                self._stores.settle_all(_SHUTDOWN_S)
            for view in self._view_ids:
                attachment.engine.unregister_view(view)
        except Exception as error:
            log.warning("LMCache: ending the copies failed: %s", error)
        finally:
            self._stores = None
            attachment.engine.close()

    # Failure.

    def _lose_loads(self) -> None:
        self._bad_blocks |= set(self._plan.blocks_to_load())
        self._lost_requests.update(self._plan.waiting_requests())

    def _give_up(self, doing: str, error: Exception) -> None:
        """Go on without the cache. Every load of this step counts as failed. Says so once."""
        log.warning("LMCache: %s failed, going on without the cache: %s", doing, error)
        self.loads = None
        self._lose_loads()
        if self._ahead is not None:
            self._lost_requests.update(self._ahead.abandon())
            self._ahead = None
        self.close()


def _layerwise_from(config: LMCacheConfig, vllm_config: Any) -> int | None:
    """Return the bytes from which loads go layer by layer; None: never.

    Captured CUDA graphs skip the hook that waits for a layer; halves of a batch that overlap call
    it from two threads.
    """
    if config.use_layerwise is False:
        return None
    mode = vllm_config.compilation_config.cudagraph_mode
    captured = mode is not None and mode.has_full_cudagraphs()
    halved = getattr(getattr(vllm_config, "parallel_config", None), "use_ubatching", False)
    if config.use_layerwise is True:
        return None if captured or halved else 0
    return None if captured or halved else _LAYERWISE_FROM_BYTES
