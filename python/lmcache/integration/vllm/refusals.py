# SPDX-License-Identifier: Apache-2.0
"""Why the KV of an engine cannot be cached, though vLLM can serve it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.page_specs import spec_text

# Specs whose pages hold nothing but the KV of their own tokens, so that a page may be kept and put
# back.
_KEEPABLE = frozenset(
    {
        "ChunkedLocalAttentionSpec",
        "FullAttentionSpec",
        "MambaSpec",
        "MLAAttentionSpec",
        "SlidingWindowSpec",
    }
)


def refusal(vllm_config: Any, kv_cache_config: Any, specs: list[Any]) -> str | None:
    """Return the first reason that applies; None: it can be cached. `specs` are those of all layers
    of all groups.
    """
    return (
        _group_refusal(list(kv_cache_config.kv_cache_groups))
        or _parallel_refusal(vllm_config, kv_cache_config)
        or _sleep_refusal(vllm_config)
        or _first(_spec_refusal, specs)
        or _stage_refusal(vllm_config, specs)
        or _latent_refusal(vllm_config, specs)
    )


def _group_refusal(groups: list[Any]) -> str | None:
    if not groups:
        return "the model has no KV cache"
    if len(groups) > 1 and not compat.TELLS_FAILED_LOADS:
        return (
            "the model keeps its KV in several groups, which needs a vLLM that can be told of "
            "failed loads; where all of them are attention, --disable-hybrid-kv-cache-manager "
            "makes them one"
        )
    for group in groups:
        if not getattr(group, "enable_kv_transfer", True):
            return "vLLM does not let the KV of this model be transferred"
        if getattr(group, "host_resident", False):
            return "vLLM keeps a part of the KV of this model on the host: not supported yet"
    return None


def _parallel_refusal(vllm_config: Any, kv_cache_config: Any) -> str | None:
    parallel = vllm_config.parallel_config
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) > 1:
            return f"{name} {getattr(parallel, name)} is not supported yet"
    if parallel.world_size % compat.tensor_parallel_replicas(kv_cache_config):
        return "the KV replicas do not divide the ranks"
    if getattr(vllm_config.cache_config, "calculate_kv_scales", False):
        return (
            "the scales of the KV are computed from the first batch, so no other engine can use it"
        )
    return None


def _sleep_refusal(vllm_config: Any) -> str | None:
    """Of an engine that gives the memory of its KV back while nobody asks it anything: a copy that
    is under way then would end CUDA for the whole process, and vLLM does not ask us before.
    """
    if getattr(vllm_config.model_config, "enable_sleep_mode", False):
        return "sleep mode takes memory away that copies may be reading: not supported yet"
    return None


def _stage_refusal(vllm_config: Any, specs: list[Any]) -> str | None:
    """Of a pipeline, a stage knows its own layers only: the others must be like them."""
    kinds = {(spec_text(spec), compat.page_bytes(spec)) for spec in specs}
    if vllm_config.parallel_config.pipeline_parallel_size == 1 or len(kinds) == 1:
        return None
    return "layers of several kinds in a pipeline of several stages: not supported yet"


def _spec_refusal(spec: Any) -> str | None:
    kind = type(spec).__name__
    if kind not in _KEEPABLE:
        return f"KV of the kind {kind} is not supported yet"
    if kind == "MambaSpec":
        return _state_refusal(spec)
    if getattr(spec, "non_causal", False):
        return "attention is not causal, so KV depends on what follows"
    tokens = compat.tokens_per_state(spec)
    if tokens != 1:
        return f"one stored state covers {tokens} tokens, which is not supported yet"
    return None


def _latent_refusal(vllm_config: Any, specs: list[Any]) -> str | None:
    """Of latent attention where vLLM computes a prompt in one piece or not at all: what its kernels
    make of a prompt whose beginning is there already differs from what they make of the whole.
    """
    latent = any(type(spec).__name__ == "MLAAttentionSpec" for spec in specs)
    if latent and not vllm_config.scheduler_config.enable_chunked_prefill:
        return (
            "vLLM does not continue a prompt of a model with latent attention here "
            "(it has chunked prefill off, as on CPU)"
        )
    return None


def _state_refusal(spec: Any) -> str | None:
    if spec.mamba_cache_mode != "align":
        return (
            "vLLM keeps no states of this model at block boundaries "
            f"(mamba_cache_mode {spec.mamba_cache_mode}; with its prefix cache on it is align)"
        )
    if getattr(spec.mamba_type, "name", "") == "SHORT_CONV":
        return "states of short convolutions are not supported yet: answers differed in tests"
    if spec.num_speculative_blocks:
        return "states of a model with speculative decoding are not supported yet"
    return None


def _first(check: Callable[[Any], str | None], items: list[Any]) -> str | None:
    return next((reason for reason in map(check, items) if reason is not None), None)
