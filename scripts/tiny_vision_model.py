# SPDX-License-Identifier: Apache-2.0
"""A tiny model that sees: PaliGemma with a SigLIP tower, for images of 112 x 112 in 64 tokens."""

from __future__ import annotations

import json
from pathlib import Path

VISION = "paligemma"
IMAGE_PIXELS, PATCH_PIXELS = 112, 14
PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "processor_class": "PaliGemmaProcessor",
    "do_resize": True,
    "size": {"height": IMAGE_PIXELS, "width": IMAGE_PIXELS},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_convert_rgb": True,
    "image_seq_length": (IMAGE_PIXELS // PATCH_PIXELS) ** 2,
}


def save_vision_model(out: Path, seed: int) -> None:
    """Write it beside the tokenizer of `out`, which gets a token for images."""
    import torch
    from safetensors.torch import save_file
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PreTrainedTokenizerFast,
        SiglipVisionConfig,
    )

    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "\n"]})
    tokenizer.chat_template = None
    tokenizer.save_pretrained(out)
    image = tokenizer.convert_tokens_to_ids("<image>")
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_PIXELS,
        patch_size=PATCH_PIXELS,
        projection_dim=256,
        vision_use_head=False,
    )
    text = GemmaConfig(
        vocab_size=len(tokenizer) + 1200,  # the processor adds tokens for places and segments
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=16384,
        initializer_range=0.08,
        **special,
    )
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image,
        image_token_id=image,
        projection_dim=256,
        hidden_size=256,
        architectures=["PaliGemmaForConditionalGeneration"],
        **special,
    )
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config).float()
    weights = model.state_dict()
    for name, weight in weights.items():
        if name.endswith("embed_tokens.weight"):
            weight.mul_(0.3)  # see tiny_architectures.py
        elif "projector" in name and weight.dim() == 2:
            weight.normal_(0, 0.3)  # so that what is seen matters
    model.config.save_pretrained(out)
    named = {
        stored_name(name): weight.contiguous()
        for name, weight in weights.items()
        if not name.startswith("lm_head")
    }
    save_file(named, out / "model.safetensors", metadata={"format": "pt"})
    (out / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    processor = {"processor_class": PROCESSOR["processor_class"]}
    (out / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")


def stored_name(name: str) -> str:
    """Return the name that the published checkpoints, and so vLLM, have for a weight."""
    for new, old in {
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector": "multi_modal_projector",
        "model.language_model.": "language_model.model.",
    }.items():
        if name.startswith(new):
            rest = name.removeprefix(new)
            return old + rest.removeprefix("vision_model.")
    return name
