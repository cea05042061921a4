# SPDX-License-Identifier: Apache-2.0
"""Turn a GGUF file of a Llama-like model into a folder of safetensors, float32, with its tokenizer.

Quantised tensors are expanded by the `gguf` package. llama.cpp stores the rows of the q and k
projections in the order of its own rotary embedding (pairs side by side); transformers wants the
two halves of a head one after the other, so these rows are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
IN_LAYER = {
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}


def field(reader: GGUFReader, key: str, default: Any = None) -> Any:
    """Return the metadata value `key`, or `default`."""
    return reader.fields[key].contents() if key in reader.fields else default


def halves_first(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's row order: [head][pair][2] becomes [head][2][pair]."""
    pairs = rows.shape[0] // heads // 2
    return np.ascontiguousarray(
        rows.reshape(heads, pairs, 2, -1).swapaxes(1, 2).reshape(rows.shape)
    )


def tensors(reader: GGUFReader) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every tensor under its transformers name, expanded to float32."""
    heads = {
        "attn_q.weight": field(reader, "llama.attention.head_count"),
        "attn_k.weight": field(reader, "llama.attention.head_count_kv"),
    }
    for tensor in reader.tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in OUTSIDE_LAYERS:
            yield OUTSIDE_LAYERS[tensor.name], values
            continue
        _, layer, name = tensor.name.split(".", 2)
        if name in heads:
            values = halves_first(values, heads[name])
        yield f"model.layers.{layer}.{IN_LAYER[name]}", values


def model_config(reader: GGUFReader, vocab_size: int, tied: bool) -> LlamaConfig:
    """Read the shape of the model out of the metadata."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=vocab_size,
        hidden_size=field(reader, "llama.embedding_length"),
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=field(reader, "llama.attention.head_count"),
        num_key_value_heads=field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=field(reader, "llama.context_length"),
        rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_theta=field(reader, "llama.rope.freq_base", 10000.0),
        tie_word_embeddings=tied,
        bos_token_id=field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=field(reader, "tokenizer.ggml.padding_token_id"),
    )


def convert(gguf: Path, out: Path, say: Callable[[str], None]) -> None:
    """Write the model folder `out`; `say` is told what is being done."""
    reader = GGUFReader(gguf)
    say(f"expanding {len(reader.tensors)} tensors to float32")
    weights = dict(tensors(reader))
    out.mkdir(parents=True)
    say("writing model.safetensors")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    vocab_size = weights["model.embed_tokens.weight"].shape[0]
    config = model_config(reader, vocab_size, tied="lm_head.weight" not in weights)
    config.save_pretrained(out)
    GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    ).save_pretrained(out)
    say("writing the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.chat_template = field(reader, "tokenizer.chat_template", tokenizer.chat_template)
    tokenizer.save_pretrained(out)
