# SPDX-License-Identifier: Apache-2.0
"""What the KV of one vLLM engine is: declared by its own configuration, never guessed from a
tensor.

The scheduler half and every worker half derive the same `EngineGeometry` (but for `lane`) from the
objects vLLM hands to each of them; the namespace it makes is the right to exchange KV. What vLLM
can do and we cannot yet is a `Refusal`: the engine then runs without the cache and says why, once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.model_identity import ModelIdentity, model_identity

if TYPE_CHECKING:
    from lmcache import _native

# Specs whose pages hold nothing but the KV of their own tokens, so that a page may be kept and put
# back.
_KEEPABLE = frozenset({"FullAttentionSpec", "MLAAttentionSpec", "SlidingWindowSpec"})


@dataclass(frozen=True)
class Refusal:
    """Why the KV of this engine cannot be cached."""

    reason: str


@dataclass(frozen=True)
class GroupGeometry:
    """Layers that share a block table. A plane is the KV of one layer, a page one block of it."""

    layer_names: tuple[str, ...]  # of this rank, in the order of its planes
    page_bytes: tuple[int, ...]  # one block of each of these layers
    block_tokens: int
    # Attention sees so many tokens; vLLM takes the blocks before them away. 0: it sees all.
    window_tokens: int = 0
    total_layers: int = 0  # over all pipeline ranks; 0: as many as here

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers of this rank."""
        return sum(self.page_bytes)

    @property
    def plane_bytes(self) -> list[int]:
        """Bytes of a page of every layer of the model."""
        if self.total_layers in (0, len(self.page_bytes)):
            return list(self.page_bytes)
        return [self.page_bytes[0]] * self.total_layers


@dataclass(frozen=True)
class EngineGeometry:
    """The KV of one engine: groups of layers on `ranks` ranks. A lane is one group on one rank."""

    identity: ModelIdentity
    dtype: str  # of the KV, as vLLM names it, with its quantisation
    layout: (
        str  # what a page holds and in which order; pages of different layouts are never exchanged
    )
    details: str  # JSON: everything else about the pages that must agree
    groups: tuple[GroupGeometry, ...]
    chunk_tokens: int
    ranks: int  # with KV of their own
    rank: int  # of this process among them; 0 in the scheduler
    owns_lanes: bool  # False: another rank holds the same KV and stores it

    @property
    def counts_requests(self) -> bool:
        """Whether this rank measures for all: what each does at the same time must count once."""
        return self.owns_lanes and self.rank == 0

    @property
    def lanes(self) -> int:
        """Lanes of the whole engine."""
        return len(self.groups) * self.ranks

    def lane(self, group: int) -> int:
        """Return the lane of a group on this rank."""
        return group * self.ranks + self.rank

    @property
    def block_tokens(self) -> int:
        """Tokens of the smallest unit that is a number of whole blocks in every group."""
        return math.lcm(*(group.block_tokens for group in self.groups))

    @property
    def loads_ahead(self) -> bool:
        """Whether requests wait in vLLM's queue for their loads, not in the step that begins them.

        With several groups vLLM learns of a failed load in no other way.
        """
        return len(self.groups) > 1

    @property
    def has_window(self) -> bool:
        """Whether vLLM takes blocks from requests that still run."""
        return any(group.window_tokens for group in self.groups)

    @property
    def slot_token_bytes(self) -> int:
        """Bytes of a token in the largest lane, rounded up."""
        return max(-(-group.block_bytes // group.block_tokens) for group in self.groups)

    def namespace(
        self, native: _NativeTypes, lora: str = "", salt: str = "", epoch: str = ""
    ) -> _native.NamespaceSpec:
        """Return the namespace of this KV, for an adapter, a cache salt and an epoch."""
        groups = [
            native.KvGroup(group.block_tokens, group.plane_bytes, group.window_tokens)
            for group in self.groups
        ]
        spec: _native.NamespaceSpec = native.NamespaceSpec(
            model=self.identity.name,
            revision=self.identity.revision,
            geometry=native.KvGeometry(self.dtype, self.layout, groups, self.details),
            chunk_tokens=self.chunk_tokens,
            world_size=self.ranks,
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
    specs = [_layer_specs(group) for group in groups]
    every = [spec for of_group in specs for spec in of_group]
    reason = reason or _first(_spec_refusal, every) or _stage_refusal(vllm_config, every)
    if reason is not None:
        return Refusal(reason)
    parallel = vllm_config.parallel_config
    replicas = compat.tensor_parallel_replicas(kv_cache_config)
    shapes = tuple(
        _group_geometry(vllm_config, group, of_group)
        for group, of_group in zip(groups, specs, strict=True)
    )
    kinds = list(dict.fromkeys(str(spec.dtype).removeprefix("torch.") for spec in every))
    return EngineGeometry(
        identity=model_identity(vllm_config),
        dtype=f"{'+'.join(kinds)}/{vllm_config.cache_config.cache_dtype}",
        layout=_layout(vllm_config, kv_cache_config, every),
        details=_details(specs, parallel),
        groups=shapes,
        chunk_tokens=_chunk_tokens(shapes, chunk_size),
        ranks=int(parallel.world_size) // replicas,
        rank=(rank or 0) // replicas,
        owns_lanes=rank is not None and rank % replicas == 0,
    )


def _group_geometry(vllm_config: Any, group: Any, specs: list[Any]) -> GroupGeometry:
    names = tuple(group.layer_names)
    return GroupGeometry(
        layer_names=names,
        page_bytes=tuple(compat.page_bytes(spec) for spec in specs),
        block_tokens=int(specs[0].block_size),
        window_tokens=_window(specs[0]),
        total_layers=_total_layers(vllm_config, names),
    )


def _window(spec: Any) -> int:
    # A full-attention spec may have a window too, where vLLM keeps what lies before it.
    return int(spec.sliding_window) if type(spec).__name__ == "SlidingWindowSpec" else 0


def _chunk_tokens(groups: tuple[GroupGeometry, ...], chunk_size: int) -> int:
    """Return the tokens of a chunk: whole blocks of every group, and within every window.

    A chunk is stored in the step that completes it. The blocks of a chunk no longer than the window
    are all there then, whatever number of tokens each step computes; so are those of one block.
    """
    unit = math.lcm(*(group.block_tokens for group in groups))
    windows = [group.window_tokens for group in groups if group.window_tokens]
    fits = min(windows, default=chunk_size) // unit * unit
    asked = -(-chunk_size // unit) * unit
    return max(unit, min(asked, fits)) if windows else asked


def _group_refusal(groups: list[Any]) -> str | None:
    if not groups:
        return "the model has no KV cache"
    if len(groups) > 1 and not compat.TELLS_FAILED_LOADS:
        return (
            "the model keeps its KV in several groups, which needs vLLM 0.32 or later; where all "
            "of them are attention, --disable-hybrid-kv-cache-manager makes them one"
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


def _stage_refusal(vllm_config: Any, specs: list[Any]) -> str | None:
    """Of a pipeline, a stage knows its own layers only: the others must be like them."""
    kinds = {(_spec_text(spec), compat.page_bytes(spec)) for spec in specs}
    if vllm_config.parallel_config.pipeline_parallel_size == 1 or len(kinds) == 1:
        return None
    return "layers of several kinds in a pipeline of several stages: not supported yet"


def _spec_refusal(spec: Any) -> str | None:
    kind = type(spec).__name__
    if kind not in _KEEPABLE:
        return f"KV of the kind {kind} is not supported yet"
    if getattr(spec, "non_causal", False):
        return "attention is not causal, so KV depends on what follows"
    tokens = compat.tokens_per_state(spec)
    if tokens != 1:
        return f"one stored state covers {tokens} tokens, which is not supported yet"
    return None


def _layer_specs(group: Any) -> list[Any]:
    """Return the spec of each layer of a group: vLLM wraps them only where layers differ."""
    wrapped = getattr(group.kv_cache_spec, "kv_cache_specs", None)
    return [wrapped[name] if wrapped else group.kv_cache_spec for name in group.layer_names]


def _first(check: Callable[[Any], str | None], items: list[Any]) -> str | None:
    return next((reason for reason in map(check, items) if reason is not None), None)


def _total_layers(vllm_config: Any, layers: tuple[str, ...]) -> int:
    """Layers over all pipeline ranks. One rank knows only its own names, so then the model's count
    is used.
    """
    if vllm_config.parallel_config.pipeline_parallel_size == 1:
        return len(layers)
    return int(vllm_config.model_config.get_total_num_hidden_layers())


def _layout(vllm_config: Any, kv_cache_config: Any, specs: list[Any]) -> str:
    """Name what a page holds.

    The order of the dimensions is not enough: the CPU kernels read a page as K transposed, then V,
    and AMX packs it in another way again, so the device and its instruction set belong to the name.
    """
    from vllm.platforms import current_platform

    device = str(current_platform.device_type)
    backend = getattr(vllm_config.attention_config, "backend", None)
    parts = [device, compat.layout_name(kv_cache_config), getattr(backend, "name", "auto")]
    if device == "cpu":
        formats = [compat.cpu_page_format(vllm_config, spec) for spec in specs]
        parts.append("+".join(dict.fromkeys(formats)))
    return "/".join(parts)


def _details(specs: list[list[Any]], parallel: Any) -> str:
    import vllm

    # What a page holds is the business of vLLM's kernels, and may change with a minor version.
    version = ".".join(str(vllm.__version__).split("+")[0].split(".")[:2])
    kinds = [list(dict.fromkeys(map(_spec_text, of_group))) for of_group in specs]
    shared = {
        "engine": f"vllm {version}",
        "tensor_parallel": parallel.tensor_parallel_size,
        "pipeline_parallel": parallel.pipeline_parallel_size,
    }
    if len(kinds) == 1 and len(kinds[0]) == 1:
        fields = shared | json.loads(kinds[0][0])
    else:
        fields = shared | {"groups": [[json.loads(kind) for kind in group] for group in kinds]}
    return json.dumps(fields, sort_keys=True)


def _spec_text(spec: Any) -> str:
    fields = {
        "spec": type(spec).__name__,
        "kv_heads": spec.num_kv_heads,
        "head_size": spec.head_size,
        "head_size_v": spec.head_size_v,
        **compat.page_details(spec),
        "window": getattr(spec, "sliding_window", None),
        "attention_chunk": getattr(spec, "attention_chunk_size", None),
    }
    return json.dumps(fields, sort_keys=True, default=str)
