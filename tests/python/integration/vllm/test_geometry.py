# SPDX-License-Identifier: Apache-2.0
"""Sizes, ranks and refusals read out of vLLM's own configuration objects."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("vllm", reason="the configuration objects are vLLM's")

import torch
from engine_config import (
    BLOCK_TOKENS,
    HEAD_SIZE,
    HEADS,
    LAYERS,
    make_kv_cache_config,
    make_spec,
    make_vllm_config,
    write_small_model,
)
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    KVCacheGroupSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from lmcache import _native
from lmcache.integration.vllm.geometry import EngineGeometry, read_geometry

PAGE_BYTES = 2 * BLOCK_TOKENS * HEADS * HEAD_SIZE * 4  # K and V of float32
ATTENTION = {
    "block_size": BLOCK_TOKENS,
    "num_kv_heads": HEADS,
    "head_size": HEAD_SIZE,
    "dtype": torch.float32,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model without usable weights."""
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def config(folder):
    """vLLM's configuration of one rank."""
    return make_vllm_config(folder)


def read(config, *specs, chunk=256, rank=0, **changes):
    """Read the geometry of a rank whose layers have these specs."""
    return read_geometry(config, make_kv_cache_config(*specs, **changes), chunk, rank)


def test_sizes(config):
    geometry = read(config)
    assert isinstance(geometry, EngineGeometry)
    (group,) = geometry.groups
    assert group.page_bytes == (PAGE_BYTES,) * LAYERS
    assert group.block_bytes == LAYERS * PAGE_BYTES
    assert geometry.slot_token_bytes == LAYERS * PAGE_BYTES // BLOCK_TOKENS
    assert not geometry.loads_ahead
    assert not geometry.has_window
    assert geometry.identity.name == "small"
    assert geometry.dtype == "float32/auto"


@pytest.mark.parametrize(
    ("asked", "used"), [(1, BLOCK_TOKENS), (BLOCK_TOKENS, BLOCK_TOKENS), (250, 256), (257, 288)]
)
def test_chunks_are_whole_blocks(config, asked, used):
    assert read(config, chunk=asked).chunk_tokens == used


def test_padding_between_pages_is_not_kept(config):
    spec = make_spec(page_size_padded=2 * PAGE_BYTES)
    assert read(config, spec).groups[0].page_bytes == (PAGE_BYTES,) * LAYERS


def test_latent_kv_has_one_vector_per_token(config):
    spec = MLAAttentionSpec(**{**ATTENTION, "num_kv_heads": 1, "head_size": 576})
    assert read(config, spec).groups[0].page_bytes == (BLOCK_TOKENS * 576 * 4,) * LAYERS


@pytest.mark.parametrize(
    ("parallel", "replicas", "rank", "lanes", "lane", "owns"),
    [
        ((1, 1), 1, None, 1, 0, False),  # the scheduler writes nothing
        ((1, 1), 1, 0, 1, 0, True),
        ((4, 1), 1, None, 4, 0, False),
        ((4, 1), 1, 3, 4, 3, True),
        ((4, 1), 2, 0, 2, 0, True),
        ((4, 1), 2, 1, 2, 0, False),  # holds what rank 0 holds
        ((4, 1), 2, 2, 2, 1, True),
        ((4, 1), 4, 3, 1, 0, False),
        ((2, 2), 1, 2, 4, 2, True),
        ((2, 2), 2, 3, 2, 1, False),
        ((8, 1), 1, 7, 8, 7, True),
        ((8, 1), 2, 7, 4, 3, False),
        ((8, 1), 8, 0, 1, 0, True),  # one latent, which every rank holds
        ((1, 4), 1, 3, 4, 3, True),
        ((8, 4), 1, 31, 32, 31, True),
        ((8, 4), 4, 20, 8, 5, True),  # the sixth of eight: the second of the third stage
    ],
)
def test_ranks_and_lanes(folder, parallel, replicas, rank, lanes, lane, owns):
    tensor, pipeline = parallel
    sizes = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    config = make_vllm_config(folder, parallel=sizes)
    kept = LAYERS // pipeline
    geometry = read(config, rank=rank, layers=kept, kv_tp_replicas=replicas)
    assert (geometry.lanes, geometry.lane(0), geometry.owns_lanes) == (lanes, lane, owns)
    assert geometry.groups[0].block_bytes == kept * PAGE_BYTES
    assert geometry.groups[0].plane_bytes == [PAGE_BYTES] * LAYERS


def test_scheduler_and_ranks_are_of_one_namespace(folder):
    sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    config = make_vllm_config(folder, parallel=sizes)
    roots = {
        read(config, rank=rank, layers=layers).namespace(_native).root()
        for rank, layers in [(None, 3), (0, 3), (1, 3), (2, 1), (3, 1)]
    }
    assert len(roots) == 1


def read_group(config, second, rank=0):
    """Read the geometry of a group of two layers, of which one is like this."""
    specs = {"b": second, "a": make_spec()}
    wrapped = UniformTypeKVCacheSpecs(block_size=BLOCK_TOKENS, kv_cache_specs=specs)
    return read(config, kv_cache_groups=[KVCacheGroupSpec(["a", "b"], wrapped)], rank=rank)


def test_layers_that_differ_are_looked_at_one_by_one(config):
    windows = read_group(config, make_spec(sliding_window=64))
    assert windows.groups[0].page_bytes == (PAGE_BYTES, PAGE_BYTES)
    heads = read_group(config, make_spec(num_kv_heads=1))
    assert heads.groups[0].page_bytes == (PAGE_BYTES, PAGE_BYTES // HEADS)
    assert heads.groups[0].block_bytes == PAGE_BYTES + PAGE_BYTES // HEADS
    state = MambaSpec(block_size=BLOCK_TOKENS, shapes=((4, 4),), dtypes=(torch.float32,))
    assert "mamba_cache_mode" in read_group(config, state).reason
    roots = {
        found.namespace(_native).root()
        for found in (windows, heads, read_group(config, make_spec()))
    }
    assert len(roots) == 3


def window(tokens=64, **changes):
    return SlidingWindowSpec(**{**ATTENTION, **changes}, sliding_window=tokens)


def test_groups_have_lanes_of_their_own(folder):
    config = make_vllm_config(folder, parallel={"tensor_parallel_size": 2})
    geometry = read(config, window(), make_spec(), rank=1)
    assert [group.window_tokens for group in geometry.groups] == [64, 0]
    assert geometry.loads_ahead
    assert geometry.has_window
    assert geometry.lanes == 4
    assert [geometry.lane(0), geometry.lane(1)] == [1, 3]  # as the native library counts them


def test_blocks_may_be_of_several_sizes(config):
    wide = make_spec(block_size=3 * BLOCK_TOKENS)
    geometry = read(config, window(512), wide, chunk=256)
    assert geometry.block_tokens == 3 * BLOCK_TOKENS
    assert geometry.chunk_tokens == 9 * BLOCK_TOKENS
    assert [group.block_tokens for group in geometry.groups] == [BLOCK_TOKENS, 3 * BLOCK_TOKENS]


@pytest.mark.parametrize(
    ("tokens", "chunk", "used"), [(64, 256, 64), (100, 256, 96), (16, 256, 32), (512, 256, 256)]
)
def test_a_chunk_is_no_longer_than_a_window(config, tokens, chunk, used):
    assert read(config, window(tokens), make_spec(), chunk=chunk).chunk_tokens == used
    assert read(config, window(tokens), chunk=chunk).chunk_tokens == used


def test_another_window_is_another_namespace(config):
    roots = {
        read(config, *specs).namespace(_native).root()
        for specs in (
            (window(64), make_spec()),
            (window(96), make_spec()),
            (make_spec(), window(64)),
            (make_spec(), make_spec()),
            (make_spec(),),
        )
    }
    assert len(roots) == 5


def states(**changes):
    values = {
        "block_size": 5 * BLOCK_TOKENS,
        "shapes": ((3, 40), (2, 16, 8)),
        "dtypes": (torch.float32, torch.float32),
        "mamba_cache_mode": "align",
        "page_size_padded": 1 << 20,
    }
    return MambaSpec(**{**values, **changes})


def test_a_state_is_kept_after_each_block(config):
    geometry = read(config, states(), make_spec(block_size=5 * BLOCK_TOKENS))
    group = geometry.groups[0]
    assert group.keeps_states
    assert geometry.keeps_states
    assert not geometry.groups[1].keeps_states
    assert group.page_bytes == ((3 * 40 + 2 * 16 * 8) * 4,) * LAYERS  # without what pads it
    assert geometry.chunk_tokens == 5 * BLOCK_TOKENS
    assert geometry.stored_block_tokens(group) == geometry.chunk_tokens
    assert geometry.loads_ahead
    assert geometry.has_window  # vLLM takes the blocks of older states away


def test_a_state_of_several_blocks_is_one_in_a_slot(config):
    geometry = read(config, states(block_size=BLOCK_TOKENS), make_spec(block_size=3 * BLOCK_TOKENS))
    assert geometry.chunk_tokens == 3 * BLOCK_TOKENS
    assert geometry.stored_block_tokens(geometry.groups[0]) == 3 * BLOCK_TOKENS
    assert geometry.slot_token_bytes == LAYERS * PAGE_BYTES // BLOCK_TOKENS


def test_other_states_are_another_namespace(config):
    attention = make_spec(block_size=5 * BLOCK_TOKENS)
    roots = {
        read(config, spec, attention).namespace(_native).root()
        for spec in (
            states(),
            states(shapes=((2, 16, 8), (3, 40))),
            states(dtypes=(torch.float32, torch.int32)),
        )
    }
    assert len(roots) == 3


@pytest.mark.parametrize(
    ("tokens", "chunk", "used"), [(128, 256, 128), (128, 96, 64), (512, 256, 256), (96, 64, 32)]
)
def test_attention_that_begins_anew_does_so_between_chunks(config, tokens, chunk, used):
    local = ChunkedLocalAttentionSpec(**ATTENTION, attention_chunk_size=tokens)
    geometry = read(config, local, make_spec(), chunk=chunk)
    assert geometry.chunk_tokens == used
    assert [group.window_tokens for group in geometry.groups] == [tokens, 0]


def test_stages_of_a_pipeline_must_be_alike(folder):
    stages = make_vllm_config(folder, parallel={"pipeline_parallel_size": 2})
    assert "several stages" in read(stages, window(), make_spec()).reason
    assert "several stages" in read_group(stages, make_spec(sliding_window=64)).reason


@pytest.mark.parametrize(
    "change",
    [
        {"num_kv_heads": 4},
        {"head_size": 32},
        {"dtype": torch.bfloat16},
        {"block_size": 2 * BLOCK_TOKENS},
        {"sliding_window": 64},
        {"attention_chunk_size": 128},
        {"head_size": HEAD_SIZE // 2, "head_size_v": HEAD_SIZE + HEAD_SIZE // 2},  # same size
    ],
)
def test_another_page_is_another_namespace(config, change):
    roots = [read(config, spec).namespace(_native).root() for spec in (make_spec(), make_spec())]
    assert roots[0] == roots[1]
    assert read(config, make_spec(**change)).namespace(_native).root() != roots[0]


def test_another_layout_or_number_of_ranks_is_another_namespace(folder, config):
    ranks = make_vllm_config(folder, parallel={"tensor_parallel_size": 2})
    stages = make_vllm_config(folder, parallel={"pipeline_parallel_size": 2})
    roots = {
        geometry.namespace(_native).root()
        for geometry in (
            read(config),
            read(config, kv_cache_layout="LBNHC"),
            read(config, layers=LAYERS - 1),
            read(config, chunk=128),
            read(ranks),
            read(ranks, kv_tp_replicas=2),
            read(stages, layers=LAYERS // 2),
        )
    }
    assert len(roots) == 7


def test_where_vllm_chooses_the_backend_by_the_gpu_its_generation_is_part_of_the_name(
    config, monkeypatch
):
    from vllm.platforms import current_platform
    from vllm.platforms.interface import DeviceCapability

    if config.attention_config.backend is not None:
        config.attention_config.backend = None
    monkeypatch.setattr(current_platform, "device_type", "cuda")
    layouts = []
    for capability in (DeviceCapability(8, 0), DeviceCapability(9, 0), None):
        monkeypatch.setattr(
            type(current_platform),
            "get_device_capability",
            classmethod(lambda cls, device_id=0, known=capability: known),
        )
        layouts.append(read(config).layout)
    assert [layout.split("/")[-1] for layout in layouts] == ["8.0", "9.0", "unknown"]
    assert layouts[0].startswith("cuda/")


def test_adapter_salt_epoch_and_weights_are_part_of_the_namespace(config):
    geometry = read(config)
    identity = dataclasses.replace(geometry.identity, revision="other")
    tuned = dataclasses.replace(geometry, identity=identity)
    specs = [
        geometry.namespace(_native),
        geometry.namespace(_native, lora="x"),
        geometry.namespace(_native, salt="x"),
        geometry.namespace(_native, epoch="x"),
        tuned.namespace(_native),
    ]
    assert len({spec.root() for spec in specs}) == len(specs)
