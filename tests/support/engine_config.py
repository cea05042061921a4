# SPDX-License-Identifier: Apache-2.0
"""vLLM's own configuration objects, for a small model that is never loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAYERS, HEADS, HEAD_SIZE, BLOCK_TOKENS = 4, 2, 64, 32


def write_small_model(folder: Path, weights: bytes = b"weights") -> Path:
    """Write the configuration of a model and something in the place of its weights."""
    folder.mkdir(parents=True)
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4 * HEAD_SIZE,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": HEADS,
        "vocab_size": 128,
        "max_position_embeddings": 1024,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def make_vllm_config(
    folder: Path, extra: dict[str, Any] | None = None, parallel: Any = None, **arguments: Any
) -> Any:
    """Return a `VllmConfig` with our connector and these settings in its dictionary.

    `parallel` are the sizes of a `ParallelConfig` to put in, which vLLM itself would first look for
    devices for.
    """
    from vllm.config import KVTransferConfig, ParallelConfig
    from vllm.engine.arg_utils import EngineArgs

    transfer = KVTransferConfig(
        kv_connector="LMCacheConnector",
        kv_connector_module_path="lmcache.integration.vllm.connector",
        kv_role="kv_both",
        kv_connector_extra_config=extra or {},
    )
    settings = {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": "float32",
        "max_model_len": 512,
        "block_size": BLOCK_TOKENS,
        "kv_transfer_config": transfer,
        **arguments,
    }
    config = EngineArgs(**settings).create_engine_config()
    if parallel:
        config.parallel_config = ParallelConfig(**parallel)
    return config


def make_spec(**changes: Any) -> Any:
    """Return vLLM's specification of the KV of one layer."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    values = {
        "block_size": BLOCK_TOKENS,
        "num_kv_heads": HEADS,
        "head_size": HEAD_SIZE,
        "dtype": torch.float32,
    }
    return FullAttentionSpec(**{**values, **changes})


def make_kv_cache_config(*specs: Any, layers: int = LAYERS, **changes: Any) -> Any:
    """Return vLLM's plan of the KV cache, with one group of `layers` layers per spec."""
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec

    names = [f"model.layers.{i}.self_attn.attn" for i in range(layers)]
    groups = [KVCacheGroupSpec(names, spec) for spec in specs or [make_spec()]]
    values = {"num_blocks": 16, "kv_cache_tensors": [], "kv_cache_groups": groups}
    return KVCacheConfig(**{**values, "kv_cache_layout": "LBHNC", **changes})
