# SPDX-License-Identifier: Apache-2.0
"""Front door 1: our own connector class, by module path; it uses all that vLLM offers.

--kv-transfer-config '{"kv_connector": "LMCacheConnector", "kv_role": "kv_both",
                       "kv_connector_module_path": "lmcache.integration.vllm.connector"}'
"""

# ruff: noqa: ARG002  # the signatures are vLLM's
from __future__ import annotations

import time
import weakref
from collections.abc import Iterable
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.halves import NoCache, open_scheduler_half, open_worker_half
from lmcache.integration.vllm.prom_metrics import PromMetrics
from lmcache.integration.vllm.scheduler import SchedulerHalf
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.worker import WorkerHalf
from lmcache.integration.vllm.worker_report import WorkerReport

# vLLM's labels for the tiers; it has none for a remote store.
_HIT_SOURCES = {
    "dram": compat.hit_source("HOST"),
    "disk": compat.hit_source("DISK"),
    "remote": compat.hit_source("EXTERNAL_UNSPECIFIED"),
}


class LMCacheConnector(KVConnectorBase_V1, compat.SupportsHMA):
    """Supports vLLM's hybrid memory allocator in that it never asks for it to be turned off."""

    _cache_hit_source = compat.hit_source("HOST")

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._scheduler_half: SchedulerHalf | NoCache | None = None
        self._worker_half: WorkerHalf | None = None
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler_half = open_scheduler_half(vllm_config, kv_cache_config)
        else:
            self._worker_half = open_worker_half(vllm_config, kv_cache_config)
        # One of the front doors is never told that vLLM shuts down.
        weakref.finalize(self, _close, self._scheduler_half, self._worker_half)

    @property
    def _scheduler(self) -> SchedulerHalf | NoCache:
        assert self._scheduler_half is not None, "called in a worker"
        return self._scheduler_half

    @property
    def _worker(self) -> WorkerHalf:
        assert self._worker_half is not None, "called in the scheduler"
        return self._worker_half

    # About the connector.

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # a store that is dropped is a miss later on

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        names = ("use_layerwise", "lmcache.use_layerwise")
        return any(str(extra_config.get(name)).lower() in ("true", "1") for name in names)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> LMCacheStats:
        return LMCacheStats(data=data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: Any,
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[Any]],
    ) -> PromMetrics:
        return PromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def get_kv_connector_stats(self) -> LMCacheStats | None:
        if self._worker_half is not None:
            return self._worker_half.take_stats()
        return self._scheduler.take_stats()

    def shutdown(self) -> None:
        _close(self._scheduler_half, self._worker_half)

    # Worker.

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        self._worker.register(kv_caches, int(self._kv_cache_config.num_blocks))

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        """Before vLLM clears the blocks it takes away. Not every front door has this: without
        windows there is time until `bind_connector_metadata`, which does it too.
        """
        self._worker.free_blocks(kv_connector_metadata)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        self._worker.begin_step(connector_metadata)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        self._worker.load()

    def has_connector_metadata(self) -> bool:
        """Whether every attention layer shall call the next two: while loads go layer by layer."""
        # Asked by every layer: no properties on the way.
        return self._worker_half.loads is not None  # type: ignore[union-attr]

    def wait_for_layer_load(self, layer_name: str) -> None:
        self._worker.wait_for_layer(layer_name)

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing: whole chunks are stored when the step has computed, behind the step loop."""

    def wait_for_save(self) -> None:
        self._worker.store()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        return self._worker.take_ended(), None

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        ended, failed = self._worker.take_arrived()
        return compat.transfer_results(self._worker.take_ended(), ended, failed)

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.take_bad_blocks()

    def build_connector_worker_meta(self) -> WorkerReport | None:
        return self._worker.take_report()

    # Scheduler.

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        began = time.perf_counter()
        found = self._scheduler.matched_tokens(request, num_computed_tokens)
        self._scheduler.stats.observe(lookup_times=time.perf_counter() - began)
        return found, bool(found) and self._scheduler.loads_ahead

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        self._scheduler.allocated(request, num_external_tokens, blocks)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        plan = self._scheduler.plan_step(scheduler_output)
        if plan.stores:
            self._scheduler.stats.add(stores=len(plan.stores))
        return plan

    def update_connector_output(self, connector_output: Any) -> None:
        report = connector_output.kv_connector_worker_meta
        if report is not None:
            self._scheduler.take_report(report)
        failed = compat.failed_loads(connector_output)
        if failed:
            self._scheduler.take_failed(failed)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._scheduler.finished(request, (block_ids,)), None

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._scheduler.finished(request, block_ids), None

    def get_external_cache_hit_sources(
        self, request: Any, num_external_tokens: int
    ) -> dict[Any, int]:
        if not num_external_tokens:
            return {}
        tiers = self._scheduler.tiers_of(request, num_external_tokens)
        return {
            _HIT_SOURCES[tier]: tokens
            for tier, tokens in (tiers or {"dram": num_external_tokens}).items()
        }

    def take_events(self) -> Iterable[Any]:
        events = self._scheduler.events
        return () if events is None else events.take()

    def reset_cache(self) -> bool | None:
        done = self._scheduler.reset()
        if self._scheduler.events is not None:
            self._scheduler.events.cleared()
        return done


def _close(*halves: SchedulerHalf | NoCache | WorkerHalf | None) -> None:
    for half in halves:
        if half is not None:
            half.close()
