# SPDX-License-Identifier: Apache-2.0
"""What the KV of one vLLM engine is: declared by its own configuration, never guessed from a
tensor.

The scheduler half and every worker half derive the same `EngineGeometry` (but for `lane`) from the
objects vLLM hands to each of them; the namespace it makes is the right to exchange KV. What vLLM
can do and we cannot yet is a `Refusal`: the engine then runs without the cache and says why, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm.model_identity import ModelIdentity, model_identity

if TYPE_CHECKING:
    from lmcache import _native

# Specs whose pages hold nothing but the KV of their own tokens, so that a page may be kept and put
# back.
_KEEPABLE = frozenset({"FullAttentionSpec", "MLAAttentionSpec"})


@dataclass(frozen=True)
class Refusal:
    """Why the KV of this engine cannot be cached."""

    reason: str


@dataclass(frozen=True)
class EngineGeometry:
    """The KV of one engine: one group of layers, `lanes` ranks.

    A plane is the KV of one layer; a block of a plane is one page of `page_bytes`.
    """

    identity: ModelIdentity
    dtype: str  # of the KV, as vLLM names it, with its quantisation
    layout: (
        str  # what a page holds and in which order; pages of different layouts are never exchanged
    )
    details: str  # JSON: everything else about the pages that must agree
    block_tokens: int
    chunk_tokens: int
    page_bytes: int  # one block of one layer
    layer_names: tuple[str, ...]  # of this rank, in the order of its planes
    total_layers: int  # over all pipeline ranks
    lanes: int  # ranks with KV of their own
    lane: int  # of this process; 0 in the scheduler
    owns_lane: bool  # False: another rank holds the same KV and stores it

    @property
    def counts_requests(self) -> bool:
        """Whether this rank measures for all: what each does at the same time must count once."""
        return self.owns_lane and self.lane == 0

    @property
    def chunk_blocks(self) -> int:
        """Blocks in one chunk."""
        return self.chunk_tokens // self.block_tokens

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers of this rank."""
        return self.page_bytes * len(self.layer_names)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk of this rank."""
        return self.block_bytes * self.chunk_blocks

    def namespace(
        self, native: _NativeTypes, lora: str = "", salt: str = "", epoch: str = ""
    ) -> _native.NamespaceSpec:
        """Return the namespace of this KV, for an adapter, a cache salt and an epoch."""
        group = native.KvGroup(self.block_tokens, [self.page_bytes] * self.total_layers)
        spec: _native.NamespaceSpec = native.NamespaceSpec(
            model=self.identity.name,
            revision=self.identity.revision,
            geometry=native.KvGeometry(self.dtype, self.layout, [group], self.details),
            chunk_tokens=self.chunk_tokens,
            world_size=self.lanes,
            lora=lora,
            salt=salt,
            extra=self.identity.extra + epoch,
        )
        return spec


# `lmcache._native`, passed in: what is pure Python here needs no compiled code to be tested.
_NativeTypes = Any


def read_geometry(
    vllm_config: Any, kv_cache_config: Any, chunk_size: int, rank: int | None
) -> EngineGeometry | Refusal:
    """Read the geometry out of vLLM's configuration.

    `chunk_size` is the setting (tokens; rounded up to whole blocks), `rank` the rank of this
    worker, None for the scheduler. Reads the weight files (see `fingerprint`).
    """
    groups = list(kv_cache_config.kv_cache_groups)
    reason = _group_refusal(groups) or _parallel_refusal(vllm_config, kv_cache_config)
    if reason is not None:
        return Refusal(reason)
    (group,) = groups
    specs = _layer_specs(group)
    reason = _first(_spec_refusal, specs) or _uniform_refusal(specs)
    if reason is not None:
        return Refusal(reason)
    spec = specs[0]
    parallel = vllm_config.parallel_config
    replicas = int(getattr(kv_cache_config, "kv_tp_replicas", 1))
    block_tokens = int(spec.block_size)
    layers = tuple(group.layer_names)
    return EngineGeometry(
        identity=model_identity(vllm_config),
        dtype=f"{spec.dtype}/{vllm_config.cache_config.cache_dtype}".removeprefix("torch."),
        layout=_layout(vllm_config, kv_cache_config, spec),
        details=_details(spec, parallel),
        block_tokens=block_tokens,
        chunk_tokens=-(-chunk_size // block_tokens) * block_tokens,
        page_bytes=int(spec.unpadded_page_size_bytes),
        layer_names=layers,
        total_layers=_total_layers(vllm_config, layers),
        lanes=int(parallel.world_size) // replicas,
        lane=(rank or 0) // replicas,
        owns_lane=rank is not None and rank % replicas == 0,
    )


def _group_refusal(groups: list[Any]) -> str | None:
    if not groups:
        return "the model has no KV cache"
    if len(groups) > 1:
        kinds = ", ".join(sorted({type(group.kv_cache_spec).__name__ for group in groups}))
        return (
            f"the model keeps its KV in {len(groups)} groups ({kinds}): not supported yet; "
            "where all of them are attention, --disable-hybrid-kv-cache-manager makes them one"
        )
    if not getattr(groups[0], "enable_kv_transfer", True):
        return "vLLM does not let the KV of this model be transferred"
    return None


def _parallel_refusal(vllm_config: Any, kv_cache_config: Any) -> str | None:
    parallel = vllm_config.parallel_config
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) > 1:
            return f"{name} {getattr(parallel, name)} is not supported yet"
    if parallel.world_size % max(1, int(getattr(kv_cache_config, "kv_tp_replicas", 1))):
        return "the KV replicas do not divide the ranks"
    if getattr(vllm_config.cache_config, "calculate_kv_scales", False):
        return (
            "the scales of the KV are computed from the first batch, so no other engine can use it"
        )
    return None


def _spec_refusal(spec: Any) -> str | None:
    kind = type(spec).__name__
    if kind not in _KEEPABLE:
        return f"KV of the kind {kind} is not supported yet"
    if getattr(spec, "non_causal", False):
        return "attention is not causal, so KV depends on what follows"
    if spec.tokens_per_state != 1:
        return f"one stored state covers {spec.tokens_per_state} tokens, which is not supported yet"
    return None


def _uniform_refusal(specs: list[Any]) -> str | None:
    sizes = {int(spec.unpadded_page_size_bytes) for spec in specs}
    if len(sizes) > 1:
        return f"layers have pages of different sizes ({sorted(sizes)} bytes): not supported yet"
    return None


def _layer_specs(group: Any) -> list[Any]:
    """Return the specs a group covers: vLLM wraps them only where layers differ."""
    wrapped = getattr(group.kv_cache_spec, "kv_cache_specs", None)
    return list(wrapped.values()) if wrapped else [group.kv_cache_spec]


def _first(check: Callable[[Any], str | None], items: list[Any]) -> str | None:
    return next((reason for reason in map(check, items) if reason is not None), None)


def _total_layers(vllm_config: Any, layers: tuple[str, ...]) -> int:
    """Layers over all pipeline ranks. One rank knows only its own names, so then the model's count
    is used.
    """
    if vllm_config.parallel_config.pipeline_parallel_size == 1:
        return len(layers)
    return int(vllm_config.model_config.get_total_num_hidden_layers())


def _layout(vllm_config: Any, kv_cache_config: Any, spec: Any) -> str:
    """Name what a page holds.

    The order of the dimensions is not enough: the CPU kernels read a page as K transposed, then V,
    and AMX packs it in another way again, so the device and its instruction set belong to the name.
    """
    from vllm.platforms import current_platform

    device = str(current_platform.device_type)
    backend = getattr(vllm_config.attention_config, "backend", None)
    parts = [device, str(kv_cache_config.kv_cache_layout), getattr(backend, "name", "auto")]
    if device == "cpu":
        parts.append(_cpu_page_format(vllm_config, spec))
    return "/".join(parts)


def _cpu_page_format(vllm_config: Any, spec: Any) -> str:
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    dtype = vllm_config.model_config.dtype
    cache_dtype = vllm_config.cache_config.cache_dtype
    return str(_get_attn_isa(dtype, spec.block_size, spec.head_size, cache_dtype))


def _details(spec: Any, parallel: Any) -> str:
    import vllm

    # What a page holds is the business of vLLM's kernels, and may change with a minor version.
    version = ".".join(str(vllm.__version__).split("+")[0].split(".")[:2])
    fields = {
        "engine": f"vllm {version}",
        "spec": type(spec).__name__,
        "kv_heads": spec.num_kv_heads,
        "head_size": spec.head_size,
        "head_size_v": spec.head_size_v,
        "quant_mode": str(spec.kv_quant_mode),
        "head_slots": spec.num_head_slots,
        "state_bytes": spec.state_content_bytes,
        "window": getattr(spec, "sliding_window", None),
        "attention_chunk": getattr(spec, "attention_chunk_size", None),
        "tensor_parallel": parallel.tensor_parallel_size,
        "pipeline_parallel": parallel.pipeline_parallel_size,
    }
    return json.dumps(fields, sort_keys=True, default=str)
