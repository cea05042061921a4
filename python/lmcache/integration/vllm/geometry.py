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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.model_identity import ModelIdentity, model_identity
from lmcache.integration.vllm.page_specs import dtype_text, spec_text
from lmcache.integration.vllm.refusals import refusal

if TYPE_CHECKING:
    from lmcache import _native

# Of a group that keeps states: only the one after the last token of a prefix matters.
_STATE_WINDOW = 1


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
    # Attention sees so many tokens; vLLM takes the blocks before them away. 0: it sees all. 1: a
    # block holds no KV of tokens but the state after its last one, as linear attention keeps it.
    window_tokens: int = 0
    total_layers: int = 0  # over all pipeline ranks; 0: as many as here

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers of this rank."""
        return sum(self.page_bytes)

    @property
    def keeps_states(self) -> bool:
        """Whether a block is a state, of which a chunk has one."""
        return self.window_tokens == _STATE_WINDOW

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
    def keeps_states(self) -> bool:
        """Whether a prefix ends with a chunk after which states were kept."""
        return any(group.keeps_states for group in self.groups)

    def stored_block_tokens(self, group: GroupGeometry) -> int:
        """Return the tokens of what is one block in a slot: of a chunk one state is kept."""
        return self.chunk_tokens if group.keeps_states else group.block_tokens

    @property
    def slot_token_bytes(self) -> int:
        """Bytes of a token in the largest lane, rounded up."""
        return max(
            -(-group.block_bytes // self.stored_block_tokens(group)) for group in self.groups
        )

    def namespace(
        self, native: _NativeTypes, lora: str = "", salt: str = "", epoch: str = ""
    ) -> _native.NamespaceSpec:
        """Return the namespace of this KV, for an adapter, a cache salt and an epoch."""
        groups = [
            native.KvGroup(self.stored_block_tokens(group), group.plane_bytes, group.window_tokens)
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
    specs = [_layer_specs(group) for group in groups]
    every = [spec for of_group in specs for spec in of_group]
    reason = refusal(vllm_config, kv_cache_config, every)
    if reason is not None:
        return Refusal(reason)
    parallel = vllm_config.parallel_config
    replicas = compat.tensor_parallel_replicas(kv_cache_config)
    shapes = tuple(
        _group_geometry(vllm_config, group, of_group)
        for group, of_group in zip(groups, specs, strict=True)
    )
    kinds = list(dict.fromkeys(dtype_text(spec) for spec in every))
    return EngineGeometry(
        identity=model_identity(vllm_config),
        dtype=f"{'+'.join(kinds)}/{vllm_config.cache_config.cache_dtype}",
        layout=_layout(vllm_config, kv_cache_config, every),
        details=_details(specs, parallel),
        groups=shapes,
        chunk_tokens=_chunk_tokens(shapes, chunk_size, _aligned_windows(every)),
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
    windows = {
        "SlidingWindowSpec": "sliding_window",
        "ChunkedLocalAttentionSpec": "attention_chunk_size",
    }
    kind = type(spec).__name__
    if kind == "MambaSpec":
        return _STATE_WINDOW
    return int(getattr(spec, windows[kind])) if kind in windows else 0


def _aligned_windows(specs: list[Any]) -> set[int]:
    """Return the windows that do not slide: attention begins anew after each of them."""
    kinds = (spec for spec in specs if type(spec).__name__ == "ChunkedLocalAttentionSpec")
    return {int(spec.attention_chunk_size) for spec in kinds}


def _chunk_tokens(groups: tuple[GroupGeometry, ...], chunk_size: int, aligned: set[int]) -> int:
    """Return the tokens of a chunk: whole blocks of every group, and within every window.

    A chunk is stored in the step that completes it. The blocks of a chunk no longer than the window
    are all there then, whatever number of tokens each step computes; so are those of one block.
    States are kept where steps end, at blocks: the smallest chunk finds most of them.
    """
    unit = math.lcm(*(group.block_tokens for group in groups))
    if any(group.keeps_states for group in groups):
        return unit
    windows = [group.window_tokens for group in groups if group.window_tokens]
    size = -(-chunk_size // unit) * unit
    if windows:
        size = max(unit, min(size, min(windows) // unit * unit))
    while size > unit and any(window % size for window in aligned):
        size -= unit
    return size


def _layer_specs(group: Any) -> list[Any]:
    """Return the spec of each layer of a group: vLLM wraps them only where layers differ."""
    wrapped = getattr(group.kv_cache_spec, "kv_cache_specs", None)
    return [wrapped[name] if wrapped else group.kv_cache_spec for name in group.layer_names]


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
        attention = [spec for spec in specs if type(spec).__name__ != "MambaSpec"]
        formats = [compat.cpu_page_format(vllm_config, spec) for spec in attention]
        parts.append("+".join(dict.fromkeys(formats)))
    elif backend is None:
        # vLLM then takes what suits the GPU best: not the same on every one.
        parts.append(compat.gpu_generation(current_platform))
    return "/".join(parts)


def _details(specs: list[list[Any]], parallel: Any) -> str:
    import vllm

    # What a page holds is the business of vLLM's kernels, and may change with a minor version.
    version = ".".join(str(vllm.__version__).split("+")[0].split(".")[:2])
    kinds = [list(dict.fromkeys(map(spec_text, of_group))) for of_group in specs]
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
