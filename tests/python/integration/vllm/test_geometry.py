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
    KVCacheGroupSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from lmcache import _native
from lmcache.integration.vllm.geometry import EngineGeometry, Refusal, read_geometry

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
    assert geometry.page_bytes == PAGE_BYTES
    assert geometry.block_bytes == LAYERS * PAGE_BYTES
    assert geometry.chunk_blocks == 256 // BLOCK_TOKENS
    assert geometry.chunk_bytes == 8 * LAYERS * PAGE_BYTES
    assert geometry.identity.name == "small"
    assert geometry.dtype == "float32/auto"


@pytest.mark.parametrize(
    ("asked", "used"), [(1, BLOCK_TOKENS), (BLOCK_TOKENS, BLOCK_TOKENS), (250, 256), (257, 288)]
)
def test_chunks_are_whole_blocks(config, asked, used):
    assert read(config, chunk=asked).chunk_tokens == used


def test_padding_between_pages_is_not_kept(config):
    spec = make_spec(page_size_padded=2 * PAGE_BYTES)
    assert read(config, spec).page_bytes == PAGE_BYTES


def test_latent_kv_has_one_vector_per_token(config):
    spec = MLAAttentionSpec(**{**ATTENTION, "num_kv_heads": 1, "head_size": 576})
    assert read(config, spec).page_bytes == BLOCK_TOKENS * 576 * 4


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
    ],
)
def test_ranks_and_lanes(folder, parallel, replicas, rank, lanes, lane, owns):
    tensor, pipeline = parallel
    sizes = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    config = make_vllm_config(folder, parallel=sizes)
    kept = LAYERS // pipeline
    geometry = read(config, rank=rank, layers=kept, kv_tp_replicas=replicas)
    assert (geometry.lanes, geometry.lane, geometry.owns_lane) == (lanes, lane, owns)
    assert geometry.block_bytes == kept * PAGE_BYTES
    assert geometry.total_layers == LAYERS


def test_scheduler_and_ranks_are_of_one_namespace(folder):
    sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    config = make_vllm_config(folder, parallel=sizes)
    roots = {
        read(config, rank=rank, layers=layers).namespace(_native).root()
        for rank, layers in [(None, 3), (0, 3), (1, 3), (2, 1), (3, 1)]
    }
    assert len(roots) == 1


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        ([make_spec(), make_spec()], r"2 groups \(FullAttentionSpec\).*--disable-hybrid"),
        ([SlidingWindowSpec(**ATTENTION, sliding_window=64)], "kind SlidingWindowSpec"),
        (
            [MambaSpec(block_size=32, shapes=((4, 4),), dtypes=(torch.float32,))],
            "kind MambaSpec",
        ),
        ([make_spec(non_causal=True)], "not causal"),
        ([make_spec(tokens_per_state=2)], "covers 2 tokens"),
    ],
)
def test_what_cannot_be_kept_is_refused(config, specs, reason):
    refusal = read(config, *specs)
    assert isinstance(refusal, Refusal)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(refusal.reason)


def test_a_model_without_kv_is_refused(config):
    assert read(config, kv_cache_groups=[]) == Refusal("the model has no KV cache")
    group = KVCacheGroupSpec(["layer"], make_spec(), enable_kv_transfer=False)
    assert "transferred" in read(config, kv_cache_groups=[group]).reason


def test_layers_that_differ_are_looked_at_one_by_one(config):
    def together(second):
        specs = {"a": make_spec(), "b": second}
        return UniformTypeKVCacheSpecs(block_size=BLOCK_TOKENS, kv_cache_specs=specs)

    assert read(config, together(make_spec(sliding_window=64))).page_bytes == PAGE_BYTES
    assert "different sizes" in read(config, together(make_spec(num_kv_heads=1))).reason
    window = SlidingWindowSpec(**ATTENTION, sliding_window=64)
    assert "SlidingWindowSpec" in read(config, together(window)).reason


def test_context_parallel_is_refused(folder):
    sizes = {"tensor_parallel_size": 2, "decode_context_parallel_size": 2}
    refusal = read(make_vllm_config(folder, parallel=sizes))
    assert refusal == Refusal("decode_context_parallel_size 2 is not supported yet")


def test_replicas_must_divide_the_ranks(folder):
    config = make_vllm_config(folder, parallel={"tensor_parallel_size": 2})
    assert "replicas" in read(config, kv_tp_replicas=3).reason


def test_scales_of_the_first_batch_are_refused(config):
    config.cache_config.calculate_kv_scales = True
    assert "scales" in read(config).reason


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
