# SPDX-License-Identifier: Apache-2.0
"""Front door 2: `LMCacheConnectorV1`, the name vLLM ships. vLLM imports this file and this class by
name.

    --kv-transfer-config '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'

vLLM's wrapper passes on no shutdown, statistics, preemptions or resets; what depends on them is
done elsewhere (at exit; in `bind_connector_metadata`) or is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.connector import LMCacheConnector
from lmcache.integration.vllm.step_plan import StepPlan


class LMCacheConnectorV1Impl:
    """What vLLM's wrapper calls: our connector, with the arguments the wrapper passes on."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, parent: Any) -> None:
        self._connector = LMCacheConnector(vllm_config, role, parent._kv_cache_config)
        # Where the wrapper keeps the plan of a step to itself, it is fetched when the step begins.
        self._plans = None if compat.passes_plans(parent) else parent
        if role == KVConnectorRole.SCHEDULER:
            # What the wrapper itself passes on comes from the workers and has no removals.
            parent.take_events = self._connector.take_events

    # Worker.

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        self._connector.register_kv_caches(kv_caches)

    def bind_connector_metadata(self, metadata: StepPlan) -> None:
        self._connector.bind_connector_metadata(metadata)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        if self._plans is not None:
            self._connector.bind_connector_metadata(self._plans._get_connector_metadata())
        self._connector.start_load_kv(forward_context, **kwargs)

    def wait_for_layer_load(self, layer_name: str) -> None:
        self._connector.wait_for_layer_load(layer_name)

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        self._connector.save_kv_layer(layer_name, kv_layer, attn_metadata, **kwargs)

    def wait_for_save(self) -> None:
        self._connector.wait_for_save()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        return self._connector.get_finished(finished_req_ids)

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._connector.get_block_ids_with_load_errors()

    def get_kv_events(self) -> Iterable[Any]:
        return ()

    # Scheduler.

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> int | None:
        return self._connector.get_num_new_matched_tokens(request, num_computed_tokens)[0]

    def update_state_after_alloc(self, request: Any, num_external_tokens: int) -> None:
        self._connector.update_state_after_alloc(request, None, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        return self._connector.build_connector_meta(scheduler_output)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self._connector.request_finished(request, block_ids)
