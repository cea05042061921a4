# SPDX-License-Identifier: Apache-2.0
"""The kinds of model that make_tiny_model.py makes: one entry each, in the words of the
architecture's own configuration class.

Head sizes are ones vLLM's CPU kernels have (32, 64, 512 ...). An initial range wider than the usual
0.02 makes greedy output vary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BASE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 16384,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,
    "dtype": "float32",
}
MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 16,
    "mamba_d_head": 32,
    "mamba_d_state": 64,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_d_conv": 4,
    "mamba_chunk_size": 64,
}
UNTIED = {"tie_word_embeddings": False}
ALTERNATING = ["sliding_attention", "full_attention"] * 2
LINEAR_THEN_FULL = ["linear_attention", "full_attention"] * 2


@dataclass(frozen=True)
class Architecture:
    """A configuration class of transformers, and what differs from `BASE`."""

    config: str  # the name of the class
    changes: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # of BASE: the class does not want them
    sharpness: float = 3  # factor of queries and keys: random ones attend to everything alike
    embedding: float = 1  # factor: too small, all tokens are alike; too large, only the last counts

    def settings(self, vocab_size: int) -> dict[str, Any]:
        """Return the arguments of the configuration class."""
        kept = {name: value for name, value in BASE.items() if name not in self.without}
        return {"vocab_size": vocab_size, **kept, **self.changes}


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("LlamaConfig", sharpness=1),  # grouped-query: 8 heads, KV of 4
    "llama-mha": Architecture("LlamaConfig", UNTIED | {"num_key_value_heads": 8}, embedding=10),
    "llama-mqa": Architecture("LlamaConfig", UNTIED | {"num_key_value_heads": 1}, embedding=10),
    "qwen2": Architecture("Qwen2Config", sharpness=1),
    # A window in every layer: one group, of sliding-window KV.
    "mistral-window": Architecture("MistralConfig", UNTIED | {"sliding_window": 64}, embedding=10),
    # Multi-head latent attention. vLLM's CPU kernel knows this rank and rope size only.
    "deepseek-mla": Architecture(
        "DeepseekV2Config",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "kv_lora_rank": 512,
            "q_lora_rank": None,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 64,
            "v_head_dim": 64,
            "first_k_dense_replace": 4,  # no experts
            "n_routed_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 64,
            "tie_word_embeddings": False,
        },
        without=("head_dim",),
        embedding=10,
    ),
    "gemma3": Architecture(
        "Gemma3TextConfig",
        {"sliding_window": 64, "layer_types": ALTERNATING, "query_pre_attn_scalar": 4},
        embedding=0.3,
    ),
    "gpt-oss": Architecture(
        "GptOssConfig",
        {
            "sliding_window": 64,
            "layer_types": ALTERNATING,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "intermediate_size": 256,
            "tie_word_embeddings": False,
        },
    ),
    # Heads of 32 in layers with a window, of 64 in the others.
    "gemma4": Architecture(
        "Gemma4TextConfig",
        {
            "sliding_window": 64,
            "layer_types": ALTERNATING,
            "global_head_dim": 64,
            "num_global_key_value_heads": 4,
            "hidden_size_per_layer_input": 0,
        },
        embedding=0.3,
    ),
    # The last two layers use the KV of the first two.
    "gemma3n": Architecture(
        "Gemma3nTextConfig",
        {
            "sliding_window": 64,
            "layer_types": ALTERNATING,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 32,
            "laurel_rank": 16,
            "activation_sparsity_pattern": [0.0] * 4,
        },
        embedding=0.3,
    ),
    "jamba": Architecture(
        "JambaConfig",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 1,
            "num_experts_per_tok": 1,
            "use_mamba_kernels": False,
        },
        without=("head_dim",),
    ),
    "granite-hybrid": Architecture(
        "GraniteMoeHybridConfig",
        MAMBA2
        | {
            "layer_types": ["mamba", "attention"] * 2,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 512,
            "position_embedding_type": "rope",
        },
        without=("head_dim",),
    ),
    "falcon-h1": Architecture("FalconH1Config", MAMBA2 | {"mamba_d_ssm": 512}),
    "zamba2": Architecture(
        "Zamba2Config",
        {
            "mamba_d_state": 64,
            "mamba_headdim": 32,
            "n_mamba_heads": 16,
            "mamba_ngroups": 1,
            "num_key_value_heads": 8,
            "attention_head_dim": 64,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "num_mem_blocks": 1,
            "use_mamba_kernels": False,
            "use_mem_rope": True,
        },
        without=("head_dim",),
    ),
    "lfm2": Architecture(
        "Lfm2Config",
        {
            "layer_types": ["conv", "full_attention"] * 2,
            "block_auto_adjust_ff_dim": False,
            "conv_dim": 256,
            "block_dim": 256,
            "block_ff_dim": 512,
            "block_multiple_of": 256,
        },
        without=("head_dim",),
    ),
    "qwen3.5": Architecture(
        "Qwen3_5TextConfig",
        {
            "layer_types": LINEAR_THEN_FULL,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    # Every second layer attends within chunks of 128 tokens.
    "llama4": Architecture(
        "Llama4TextConfig",
        {
            "attention_chunk_size": 128,
            "no_rope_layers": [1, 0, 1, 0],
            "layer_types": ["chunked_attention", "full_attention"] * 2,
            "num_local_experts": 1,
            "moe_layers": [],
            "interleave_moe_layer_step": 0,  # no experts
            "intermediate_size_mlp": 512,
            "tie_word_embeddings": False,
        },
        embedding=10,
    ),
}
