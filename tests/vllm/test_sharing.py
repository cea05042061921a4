# SPDX-License-Identifier: Apache-2.0
"""Several engines on one segment: what one computed the others reuse, unless their KV differs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from llm_peer import Peer

CHUNK = 64
PROMPT = [random.Random(7).randrange(3, 2000) for _ in range(5 * CHUNK + 21)]


def config(segment: str) -> dict:
    return {"chunk_size": CHUNK, "segment": segment, "max_local_cpu_size": 0.5}


@pytest.fixture(scope="module")
def reference(open_llm):
    return open_llm(block_size=32).ask_one(PROMPT)


@pytest.fixture(scope="module")
def stored(open_llm, reference, segment):
    """Another engine has served the prompt before."""
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=config(segment))
    assert llm.ask_one(PROMPT).differs_from(reference) == ""
    assert llm.ask_one(PROMPT).cached_tokens == len(PROMPT) - 1
    return segment


@pytest.fixture
def cached_with(open_llm, stored):
    """Return a function that starts an engine on the segment and returns it."""

    def start(**settings):
        return open_llm(
            **{"block_size": 32, "enable_lmcache": True, "lmcache_config": config(stored)}
            | settings
        )

    return start


def test_a_later_engine_hits(cached_with, reference):
    answer = cached_with().ask_one(PROMPT)
    assert answer.differs_from(reference) == ""
    assert answer.cached_tokens == len(PROMPT) - 1


def test_salts_are_apart(cached_with, reference):
    llm = cached_with()
    assert llm.ask_one(PROMPT, salt="a tenant").cached_tokens == 0
    again = llm.ask_one(PROMPT, salt="a tenant")
    assert again.cached_tokens == len(PROMPT) - 1
    assert again.differs_from(reference) == ""
    assert llm.ask_one(PROMPT, salt="another").cached_tokens == 0


@pytest.mark.parametrize(
    "other",
    [{"block_size": 64}, {"dtype": "bfloat16"}, {"hf_overrides": {"rope_theta": 12345.0}}],
    ids=["block size", "dtype", "rope"],
)
def test_other_kv_is_apart(cached_with, other):
    llm = cached_with(**other)
    first, again = llm.ask_one(PROMPT), llm.ask_one(PROMPT)
    assert first.cached_tokens == 0
    assert again.cached_tokens == len(PROMPT) - 1
    assert again.differs_from(first) == ""


def test_other_weights_of_the_same_shape_are_apart(cached_with, tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / tiny_model.name  # same name, same configuration, same sizes
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: -value for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert cached_with(model=str(folder)).ask_one(PROMPT).cached_tokens == 0


def test_a_copy_of_the_model_hits(cached_with, tiny_model, tmp_path, reference):
    folder = tmp_path / tiny_model.name
    shutil.copytree(tiny_model, folder)
    answer = cached_with(model=str(folder)).ask_one(PROMPT)
    assert answer.cached_tokens == len(PROMPT) - 1
    assert answer.differs_from(reference) == ""


def write_adapter(folder, seed: int):
    """Write a LoRA adapter for the attention of the tiny model."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 64,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    weights = {}
    for layer in range(4):
        for name, size in {"q_proj": 256, "v_proj": 128}.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(8, 256) * 0.1
            weights[f"{stem}.lora_B.weight"] = torch.randn(size, 8) * 0.1
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_adapters_are_apart(cached_with, reference, tmp_path):
    from vllm.lora.request import LoRARequest

    one = LoRARequest("one", 1, str(write_adapter(tmp_path / "one", 1)))
    two = LoRARequest("two", 2, str(write_adapter(tmp_path / "two", 2)))
    llm = cached_with(enable_lora=True, max_lora_rank=8, max_loras=2)
    first = llm.ask_one(PROMPT, lora=one)
    assert first.cached_tokens == 0
    assert first.tokens != reference.tokens  # the adapter does something
    again = llm.ask_one(PROMPT, lora=one)
    assert again.cached_tokens == len(PROMPT) - 1
    assert again.differs_from(first) == ""
    assert llm.ask_one(PROMPT, lora=two).cached_tokens == 0
    plain = llm.ask_one(PROMPT)
    assert plain.cached_tokens == len(PROMPT) - 1
    assert plain.differs_from(reference) == ""


def test_two_engines_at_once_a_crash_and_a_restart(
    cached_with, stored, reference, tmp_path, tiny_model
):
    settings = {
        "model": str(tiny_model),
        "block_size": 32,
        "enable_lmcache": True,
        "lmcache_config": config(stored),
    }
    peer = Peer(tmp_path / "peer.log", **settings)
    mine = cached_with()
    theirs = peer.ask_one(PROMPT)
    assert theirs.cached_tokens == len(PROMPT) - 1
    assert theirs.differs_from(reference) == ""
    # What either computes the other one has.
    longer, longest = [*PROMPT, *range(100, 150)], [*PROMPT, *range(100, 150), *range(300, 340)]
    computed = peer.ask_one(longer)
    assert computed.cached_tokens == len(PROMPT)
    assert mine.ask_one(longer).cached_tokens == len(longer) - 1
    assert mine.ask_one(longer).differs_from(computed) == ""
    mine.ask_one(longest)
    assert peer.ask_one(longest).cached_tokens == len(longest) - 1
    peer.kill()
    mine.close()
    restarted = Peer(tmp_path / "restarted.log", **settings)
    answer = restarted.ask_one(PROMPT)
    assert answer.cached_tokens == len(PROMPT) - 1
    assert answer.differs_from(reference) == ""
    assert "WARNING" not in [line for line in restarted.close().splitlines() if "LMCache" in line]


def test_a_private_segment_goes_with_its_engine(open_llm, reference):
    private = {"chunk_size": CHUNK, "segment": "private", "max_local_cpu_size": 0.1}
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=private)
    assert llm.ask_one(PROMPT).cached_tokens == 0
    again = llm.ask_one(PROMPT)
    assert again.cached_tokens == len(PROMPT) - 1
    assert again.differs_from(reference) == ""
    path = Path(llm.worker._attachment.engine.status()["path"])
    assert "private-" in path.name
    assert path.exists()
    llm.close()
    assert not path.exists()
