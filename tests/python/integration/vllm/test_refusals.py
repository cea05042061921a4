# SPDX-License-Identifier: Apache-2.0
"""What cannot be cached, and the reason that is given."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="the configuration objects are vLLM's")

import torch
from engine_config import (
    BLOCK_TOKENS,
    HEAD_SIZE,
    HEADS,
    make_kv_cache_config,
    make_spec,
    make_vllm_config,
    write_small_model,
)
from vllm.v1.attention.backends.registry import MambaAttentionBackendEnum
from vllm.v1.kv_cache_interface import (
    CrossAttentionSpec,
    KVCacheGroupSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)

from lmcache.integration.vllm.geometry import EngineGeometry, Refusal, read_geometry

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


def read(config, *specs, **changes):
    """Read the geometry of a rank whose layers have these specs."""
    return read_geometry(config, make_kv_cache_config(*specs, **changes), 256, 0)


def window(tokens=64):
    return SlidingWindowSpec(**ATTENTION, sliding_window=tokens)


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        (
            [MambaSpec(block_size=32, shapes=((4, 4),), dtypes=(torch.float32,))],
            "mamba_cache_mode none",
        ),
        (
            [
                MambaSpec(
                    block_size=32,
                    shapes=((4, 4),),
                    dtypes=(torch.float32,),
                    mamba_cache_mode="align",
                    num_speculative_blocks=2,
                )
            ],
            "speculative",
        ),
        (
            [
                MambaSpec(
                    block_size=32,
                    shapes=((4, 4),),
                    dtypes=(torch.float32,),
                    mamba_cache_mode="align",
                    mamba_type=MambaAttentionBackendEnum.SHORT_CONV,
                )
            ],
            "short convolutions",
        ),
        (
            [CrossAttentionSpec(**ATTENTION)],
            "kind CrossAttentionSpec",
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


def test_latent_attention_that_cannot_continue_a_prompt_is_refused(config):
    spec = MLAAttentionSpec(**{**ATTENTION, "num_kv_heads": 1, "head_size": 576})
    config.scheduler_config.enable_chunked_prefill = False
    assert "latent attention" in read(config, spec).reason
    assert isinstance(read(config, make_spec()), EngineGeometry)


def test_a_vllm_that_cannot_be_told_of_a_failed_load_is_refused(config, monkeypatch):
    from lmcache.integration.vllm import compat

    monkeypatch.setattr(compat, "TELLS_FAILED_LOADS", False)
    assert "can be told of failed loads" in read(config, window(), make_spec()).reason
    assert isinstance(read(config, make_spec()), EngineGeometry)


def test_an_engine_that_gives_its_memory_back_is_refused(config):
    assert isinstance(read(config, make_spec()), EngineGeometry)
    config.model_config.enable_sleep_mode = True
    refused = read(config, make_spec())
    assert isinstance(refused, Refusal)
    assert "sleep mode" in refused.reason
