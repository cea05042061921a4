# SPDX-License-Identifier: Apache-2.0
"""The version shield: all that differs between versions of vLLM, told by what is there, never by
the number.

The other modules of this folder name only what every version from 0.28 on has. What one of them
lacks is asked for here, and each function says what stands in for it. `features` tells the same of
a vLLM that is not imported.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterable
from typing import Any


def _module(name: str) -> Any:
    """Return a module of vLLM, None where there is none of that name (or no vLLM)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_base = _module("vllm.distributed.kv_transfer.kv_connector.v1.base")

# The class that says that our connector needs no single KV group. Without it vLLM asks nobody.
SupportsHMA: Any = getattr(_base, "SupportsHMA", type("SupportsHMA", (), {}))


def hit_source(name: str) -> Any:
    """Return vLLM's label for the tier that hits come from; None before 0.32, which has none."""
    labels = getattr(_module("vllm.v1.metrics.cache_hit_source"), "CacheHitSource", None)
    return getattr(labels, name, None)


# Whether vLLM can be told that the load a request waits for has failed; 0.28 cannot. With several
# KV groups there is no other way to say it.
TELLS_FAILED_LOADS = hasattr(_base, "KVConnectorTransferResults")


def transfer_results(sent: set[str], received: set[str], failed: set[str]) -> Any:
    """Return the requests whose copies have ended, as vLLM wants them told."""
    return _base.KVConnectorTransferResults(
        finished_sending=sent, finished_recving=received, failed_recving=failed
    )


def failed_loads(connector_output: Any) -> Any:
    """Return the requests whose loads failed, as ranks tell the scheduler; none in 0.28."""
    return getattr(connector_output, "failed_recving", None) or ()


def passes_plans(wrapper: Any) -> bool:
    """Return whether vLLM's own `LMCacheConnectorV1` hands the plan of a step on; not in 0.28."""
    return "bind_connector_metadata" in vars(type(wrapper))


# The KV of a group of layers.


def tokens_per_state(spec: Any) -> Any:
    """Return how many tokens one stored state covers; before 0.30 only compressed KV says so."""
    own = getattr(spec, "tokens_per_state", None)
    return getattr(spec, "compress_ratio", 1) if own is None else own


def page_bytes(spec: Any) -> int:
    """Return the bytes of one block of one layer, without what pads it to the size of others."""
    for name in ("unpadded_page_size_bytes", "real_page_size_bytes", "page_size_bytes"):
        size = getattr(spec, name, None)
        if size is not None:
            return int(size)
    raise AttributeError(f"{type(spec).__name__} does not say how large a page is")


def page_details(spec: Any) -> dict[str, Any]:
    """Return what else a specification says about its pages; null where a version does not."""
    return {
        "quant_mode": str(getattr(spec, "kv_quant_mode", None)),
        "head_slots": getattr(spec, "num_head_slots", None),
        "state_bytes": getattr(spec, "state_content_bytes", None),
    }


def layout_name(kv_cache_config: Any) -> str:
    """Return the order of the dimensions in memory: of this engine, before 0.30 of the process."""
    layout = getattr(kv_cache_config, "kv_cache_layout", None)
    if layout is None:
        backends = _module("vllm.v1.attention.backends.utils")
        ask = getattr(backends, "get_kv_cache_layout", None)
        layout = ask() if ask is not None else None
    return str(layout)


def hash_block_tokens(kv_cache_config: Any, block_tokens: int) -> int:
    """Return how many tokens each of a request's block hashes adds: a block's, where vLLM is
    silent.
    """
    return int(getattr(kv_cache_config, "hash_block_size", None) or block_tokens)


def tensor_parallel_replicas(kv_cache_config: Any) -> int:
    """Return how many ranks in a row hold the same KV; before 0.31 vLLM does not say: one."""
    return max(1, int(getattr(kv_cache_config, "kv_tp_replicas", 1)))


def cpu_page_format(vllm_config: Any, spec: Any) -> str:
    """Return the instruction set whose kernels read the pages: it decides how they are packed.

    The function is private to vLLM. Without it the machine's own name sets pages of different
    machines apart.
    """
    backend = _module("vllm.v1.attention.backends.cpu_attn")
    dtype = vllm_config.model_config.dtype
    try:
        ask = backend._get_attn_isa
        return str(
            ask(dtype, spec.block_size, spec.head_size, vllm_config.cache_config.cache_dtype)
        )
    except (AttributeError, TypeError):
        return f"unknown {platform.node()}"


def gpu_generation(platform_of_vllm: Any) -> str:
    """Return the generation of the GPU, as CUDA counts them ("9.0"); "unknown" where there is none.

    The scheduler half must come to the same, so the device is the first one.
    """
    capability = platform_of_vllm.get_device_capability()
    return "unknown" if capability is None else f"{capability.major}.{capability.minor}"


# Requests and steps.


def concurrent_batches(vllm_config: Any) -> int:
    """Return how many steps may be under way at once; two if vLLM is silent."""
    return int(getattr(vllm_config, "max_concurrent_batches", 2))


def in_flight_tokens(request: Any) -> int:
    """Return the tokens of a request that steps under way compute. vLLM counts them as computed."""
    return int(getattr(request, "num_in_flight_tokens", 0))


def reads_prefix_cache(request: Any) -> bool:
    """Return whether a request may use cached KV: not if its prompt's logits are asked for."""
    return not getattr(request, "skip_reading_prefix_cache", False)


def boundary_states(blocks: Any, request_id: str) -> dict[tuple[int, int], int]:
    """Return which block holds the state of a group after so many tokens, of those that a step
    computes: (group, tokens) -> block. Empty where vLLM keeps none.
    """
    offered = getattr(blocks, "boundary_state_offloads", None) or {}
    return {(group, tokens): block for group, block, tokens in offered.get(request_id, ())}


def session_id(request: Any) -> Any:
    """Return the session that a request belongs to; only newer versions know sessions."""
    return getattr(request, "session_id", None)


# KV events.


def event_fields_of_group(spec: Any) -> dict[str, Any]:
    """Return what vLLM's own events say of a group of layers beside its number."""
    interface = _module("vllm.v1.kv_cache_interface")
    kind = getattr(interface, "get_kv_cache_spec_kind", None)
    window = getattr(interface, "get_kv_cache_spec_sliding_window", None)
    return {
        "kv_cache_spec_kind": None if kind is None else kind(spec).value,
        "kv_cache_spec_sliding_window": None if window is None else window(spec),
    }


def event_extra_keys(request: Any, begins: Iterable[int], block_tokens: int) -> Any:
    """Return what vLLM hashed into each block beside its tokens; None if it does not publish it."""
    utils = _module("vllm.v1.core.kv_cache_utils")
    publish = getattr(utils, "to_event_extra_keys", None)
    if publish is None:
        return None
    keys, item = [], 0
    for begin in begins:
        of_block, item = utils.generate_block_hash_extra_keys(
            request, begin, begin + block_tokens, item
        )
        keys.append(of_block)
    return publish(keys)


class BlockTables:
    """The blocks of every request in a step, by `get_block_ids(request_id)`.

    From 0.30 on vLLM offers them with the step. Before, a step names only what is new, so the
    tables are kept here. One thread: the scheduler's.
    """

    def __init__(self) -> None:
        self._tables: dict[str, tuple[list[int], ...]] = {}

    def of(self, output: Any) -> Any:
        """Return the tables that belong to a step's output."""
        offered = getattr(output, "kv_connector_block_state", None)
        if offered is not None:
            return offered
        self._follow(output)
        return self

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...] | None:
        """Return the blocks of each KV group of a request; None for one that vLLM never named."""
        return self._tables.get(request_id)

    def _follow(self, output: Any) -> None:
        for request_id in output.finished_req_ids or ():
            self._tables.pop(request_id, None)
        for new in output.scheduled_new_reqs:
            self._tables[new.req_id] = tuple(list(blocks) for blocks in new.block_ids)
        cached = output.scheduled_cached_reqs
        resumed = cached.resumed_req_ids  # named in full, since they lost what they had
        for request_id, new_blocks in zip(cached.req_ids, cached.new_block_ids, strict=True):
            if request_id in resumed or request_id not in self._tables:
                self._tables[request_id] = tuple(list(blocks) for blocks in new_blocks or ())
            elif new_blocks is not None:
                for table, more in zip(self._tables[request_id], new_blocks, strict=True):
                    table.extend(more)
