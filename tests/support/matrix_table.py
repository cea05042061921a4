# SPDX-License-Identifier: Apache-2.0
"""The table of tests/vllm/test_matrix.py: models, schedules, and the rows that pair them with a
tier and a way to switch the cache on. A model is one entry of `MODELS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KEYWORDS = "keyword arguments"
SHIPPED = "the name vLLM ships"
MODULE_PATH = "our class by module path"
SWITCH = "vLLM's own switch"
ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Model:
    """A model of scripts/tiny_architectures.py as vLLM is to run it."""

    arch: str
    settings: dict[str, Any] = field(default_factory=dict)
    step_tokens: int = 256  # what one step computes at most
    exact: bool = True  # all but the last token of a prompt that comes again is found
    # False: vLLM's CPU kernels give other results for a token of an answer than for the same token
    # in a prompt. Answers depend then on where a prompt was cut, with any cache or none.
    steady: bool = True
    refused: str = ""  # part of the line that says why it is not cached; empty: it is
    # The same of some schedules only.
    refused_on: dict[str, str] = field(default_factory=dict)
    # Schedules that vLLM on CPU cannot be asked with this model, with any cache or none, and why.
    left_out: dict[str, str] = field(default_factory=dict)


MAMBA2_STEP = 160  # wider steps checkpoint states inside, which vLLM's CPU kernels cannot
NO_STATES = {"no prefix caching": "vLLM keeps no states of this model at block boundaries"}
NO_DRAFTS = {
    "n-gram speculation": "vLLM moves states to other blocks by a Triton kernel, which CPUs lack"
}
ONE_AT_A_TIME = {
    "preemption": "beside a request that decodes, a step has less room than the block that vLLM "
    "wants to compute of another one: one runs at a time, and none is preempted"
}
# vLLM alone: the same eight prompts in another order, or one by one, differ by 0.03; with more
# blocks, tokens differ too.
BFLOAT16 = "in bfloat16 answers depend on where a prompt is cut, which a hit changes here"
MODELS: dict[str, Model] = {
    "grouped heads": Model("llama"),
    "a KV head per head": Model("llama-mha"),
    "one KV head": Model("llama-mqa"),
    "biases": Model("qwen2"),
    "fp8 KV": Model("llama", {"kv_cache_dtype": "fp8"}),
    # With AMX vLLM has other kernels for it, which take no float32: test_latent_attention.py.
    "latent attention": Model(
        "deepseek-mla",
        {"attention_backend": "CPU_MLA"},
        steady=False,
        refused="vLLM does not continue a prompt of a model with latent attention here",
    ),
    "a window in every layer": Model(
        "mistral-window",
        exact=False,
        left_out={
            "preemption": "a request that is admitted gives a block back for each one it takes"
        },
    ),
    "a window in every second layer": Model("gemma3", exact=False),
    "attention sinks": Model("gpt-oss", exact=False),
    "heads of two sizes": Model("gemma4", exact=False),
    "layers that share KV": Model("gemma3n", exact=False),
    "attention within chunks": Model("llama4", exact=False),
    "short convolutions": Model(
        "lfm2", exact=False, steady=False, refused="states of short convolutions are not supported"
    ),
    "mamba and attention": Model(
        "granite-hybrid",
        step_tokens=MAMBA2_STEP,
        exact=False,
        refused_on=NO_STATES,
        left_out=NO_DRAFTS | ONE_AT_A_TIME,
    ),
    "mamba beside attention": Model(
        "falcon-h1",
        step_tokens=MAMBA2_STEP,
        exact=False,
        refused_on=NO_STATES,
        left_out=NO_DRAFTS | ONE_AT_A_TIME,
    ),
    # Of vLLM alone, which preempts none here, answers of 100 tokens differ by 1.4e-4 where prompts
    # are cut at 48 tokens instead of 64.
    "three groups": Model(
        "zamba2",
        step_tokens=64,
        exact=False,
        refused_on=NO_STATES,
        left_out=NO_DRAFTS | ONE_AT_A_TIME,
    ),
    "gated delta net": Model(
        "qwen3.5",
        {"dtype": "bfloat16"},
        exact=False,
        refused_on=NO_STATES,
        left_out=NO_DRAFTS | dict.fromkeys(("together", "chunked prefill", "preemption"), BFLOAT16),
    ),
}

# What vLLM is started with; schedules of the same engine share its start.
N_GRAM = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 4,
    "prompt_lookup_min": 1,
}
ENGINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunked": {"max_num_batched_tokens": 64},
    # So few blocks that eight requests do not fit.
    "scarce": {"max_model_len": 384, "num_gpu_blocks_override": 40},
    "no prefix caching": {"enable_prefix_caching": False},
    "embeddings": {"enable_prompt_embeds": True},
    "n-gram": {"speculative_config": N_GRAM},
}


@dataclass(frozen=True)
class Row:
    """One case."""

    model: str
    schedule: str
    engine: str
    tier: str = "dram"
    door: str = KEYWORDS
    refused: str = ""
    quick: bool = False  # part of `make test`

    def __str__(self) -> str:
        return ", ".join((self.model, self.schedule, self.tier, self.door))


# Schedules (see matrix_schedules.py) and the engine of each.
SCHEDULES = {
    "one by one": "plain",
    "extended": "plain",
    "together": "plain",
    "one token": "plain",
    "structured output": "plain",
    "several answers": "plain",
    "aborted": "plain",
    "reset": "plain",
    "chunked prefill": "chunked",
    "preemption": "scarce",
    "no prefix caching": "no prefix caching",
    "prompt embeddings": "embeddings",
    "n-gram speculation": "n-gram",
}
STEADY_OR_NOT = {"one by one", "prompt embeddings"}
QUICK_MODELS = {"grouped heads", "latent attention", "a window in every second layer"}
QUICK_SCHEDULES = {
    "one by one",
    "extended",
    "together",
    "one token",
    "aborted",
    "reset",
    "preemption",
}


def row(name: str, schedule: str, **other: Any) -> Row:
    model = MODELS[name]
    refused = model.refused or model.refused_on.get(schedule, "")
    return Row(name, schedule, SCHEDULES[schedule], **{"refused": refused, **other})


def rows() -> Iterator[Row]:
    """Every model on every schedule in DRAM; on disk and a remote store; every door."""
    for name, model in MODELS.items():
        for schedule in SCHEDULES:
            if schedule in model.left_out:
                continue
            if model.steady or schedule in STEADY_OR_NOT:
                quick = name in QUICK_MODELS and schedule in QUICK_SCHEDULES
                yield row(name, schedule, quick=quick)
        lower = "extended" if model.steady else "one by one"
        yield row(name, lower, tier="disk")
        yield row(name, lower, tier="remote")
    yield row("grouped heads", "chunked prefill", tier="disk")
    yield row("grouped heads", "preemption", tier="remote")
    for door in (SHIPPED, MODULE_PATH, SWITCH, ENVIRONMENT):
        yield row("one KV head", "chunked prefill", door=door)
    # vLLM's wrapper is not made for several groups: where all are attention, it makes them one.
    for name in ("a window in every second layer", "attention sinks", "attention within chunks"):
        yield row(name, "one by one", door=SHIPPED, refused="")


ROWS = sorted(
    rows(),
    key=lambda row: (
        list(MODELS).index(row.model),
        list(ENGINES).index(row.engine),
        row.tier,
        row.door,
    ),
)
