# SPDX-License-Identifier: Apache-2.0
"""The engines of the differential test: which model, how scarce its memory is, how its cache is
set. What a table leaves open is drawn anew in every round.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulty_engine import FaultyEngine, LateCopies
from matrix_engines import model_folder
from matrix_table import N_GRAM
from request_streams import DIGITS, DRAWN, EMPTY, FORGET, GREEDY, PREEMPT, SEVERAL
from served_llm import ServedLLM

CONTEXT = 384
UNDRAWN = (GREEDY, SEVERAL, DIGITS)  # vLLM on CPU cannot draw with a seed from prompts cut in parts
ADAPTERS = ("", "", "one", "two")
# One slot more than there are adapters: vLLM on CPU computes a request without one, beside others
# that have one, with what is in the last slot (an index of -1, `torch_ops/lora_ops.py`).
LORA = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 3}
LITTLE = {"max_local_cpu_size": 0.006}  # GB, so that most comes from the disk
KEEPING = (
    FORGET,
    PREEMPT,
)  # an engine that forgets what it stored never finds it again, on disk too
WHOLE_PROMPTS = {"enable_chunked_prefill": False, "max_num_batched_tokens": CONTEXT}


@dataclass(frozen=True)
class Setup:
    """An engine with a cache, and the streams it gets."""

    model: str
    vllm: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    kinds: Sequence[str] = UNDRAWN
    adapters: bool = False
    disk: bool = False
    late: bool = False  # copies begin as late as they may
    failing: float = 0  # the share of loads that fail
    events: Sequence[str] = (FORGET, PREEMPT, EMPTY)

    def settings(self, source: random.Random) -> dict[str, Any]:
        """Return how vLLM is started, but for the cache."""
        scarce = (16, 20, 26) if self.model == "llama" else (30, 36, 44)
        return {
            "num_gpu_blocks_override": source.choice(scarce),
            "max_num_seqs": source.choice((4, 8)),
            "max_num_batched_tokens": source.choice((64, 80, 150)),
            **engine_settings(self.model),
            **(LORA if self.adapters else {}),
            **self.vllm,
        }

    def config(self, source: random.Random, segment: str, folder: Path) -> dict[str, Any]:
        """Return how the cache is set."""
        disk = {"local_disk": str(folder), "max_local_disk_size": 1}
        return {
            "chunk_size": source.choice((32, 64, 64, 128)),
            "segment": segment,
            "max_local_cpu_size": source.choice((0.008, 0.016)),
            "conversation_mode": source.random() < 0.5,
            "save_unfull_chunk": source.random() < 0.7,
            "load_policy": "always",
            **(disk if self.disk else {}),
            **self.cache,
        }


SETUPS = {
    "prompts in parts, adapters": Setup("llama", adapters=True),
    "drawn answers, late copies": Setup("llama", WHOLE_PROMPTS, kinds=(DRAWN,), late=True),
    "n-grams, answers kept": Setup(
        "llama", {"speculative_config": N_GRAM}, {"conversation_mode": True}, (GREEDY,), late=True
    ),
    "disk, adapters": Setup("llama", cache=LITTLE, adapters=True, disk=True, events=KEEPING),
    # Not late: blocks would be computed anew before a copy of what was spoilt begins.
    "loads that fail": Setup(
        "llama", {"enable_prefix_caching": False}, {"use_layerwise": True}, failing=0.3
    ),
    "windows, late copies": Setup("gemma3", late=True),
    "windows, disk": Setup("gemma3", cache=LITTLE, disk=True, events=KEEPING),
    "windows, loads that fail": Setup(
        "gemma3", WHOLE_PROMPTS, kinds=(DRAWN, SEVERAL), failing=0.15
    ),
    "windows, n-grams, answers kept": Setup(
        "gemma3", {"speculative_config": N_GRAM}, {"conversation_mode": True}, (GREEDY,), late=True
    ),
}


def engine_settings(model: str) -> dict[str, Any]:
    """Return what all engines of a model have in common."""
    return {"model": str(model_folder(model)), "block_size": 32, "max_model_len": CONTEXT}


def reference_settings(model: str) -> dict[str, Any]:
    """Return how vLLM is started without any cache."""
    lora = LORA if model == "llama" else {}
    return {**engine_settings(model), **WHOLE_PROMPTS, "enable_prefix_caching": False, **lora}


def start(open_llm: Callable[..., ServedLLM], settings: dict[str, Any]) -> ServedLLM:
    """Start vLLM."""
    # vLLM looks into every module when a worker starts, and trips over this one, which its n-gram
    # proposer brings in.
    sys.modules.pop("llvmlite.binding.ffi", None)
    llm = open_llm(**settings)
    sys.modules.pop("llvmlite.binding.ffi", None)
    return llm


def make_awkward(llm: ServedLLM, setup: Setup, source: random.Random) -> None:
    """Put decorators around the worker's engine: loads that fail, copies that begin late."""
    if setup.failing:
        lose_some(decorate(llm), setup.failing, source)
    if setup.late:
        LateCopies(decorate(llm))


def decorate(llm: ServedLLM) -> FaultyEngine:
    """Put a decorator around the worker's engine, over those that are there."""
    worker = llm.worker
    engine = FaultyEngine(worker._attachment.engine)
    object.__setattr__(worker._attachment, "engine", engine)
    worker._stores._engine = engine
    if worker._ahead is not None:
        worker._ahead._engine = engine
    return engine


def lose_some(engine: FaultyEngine, share: float, source: random.Random) -> None:
    """Make a share of the loads find another chunk in one of their slots."""

    def submit(real: Callable[..., int], view: int, items: list[Any]) -> int:
        if source.random() < share:
            place = source.randrange(len(items))
            items = [*items[:place], (1, *items[place][1:]), *items[place + 1 :]]
        return real(view, items)

    engine.faults["submit_load"] = submit


def write_adapters(folder: Path) -> dict[str, Any]:
    """Write LoRA adapters for the tiny model; return what vLLM is asked with, by name."""
    from vllm.lora.request import LoRARequest

    adapters = {}
    for number, name in enumerate(sorted(set(ADAPTERS) - {""}), 1):
        write_adapter(folder / name, number)
        adapters[name] = LoRARequest(name, number, str(folder / name))
    return adapters


def write_adapter(folder: Path, seed: int) -> Path:
    """Write a LoRA adapter for the attention of the tiny model."""
    import torch
    from safetensors.torch import save_file

    source = torch.Generator().manual_seed(seed)
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 64,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    weights = {}
    for layer in range(4):
        for name, size in {"q_proj": 256, "v_proj": 128}.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(8, 256, generator=source) * 0.1
            weights[f"{stem}.lora_B.weight"] = torch.randn(size, 8, generator=source) * 0.1
    save_file(weights, folder / "adapter_model.safetensors")
    return folder
