# SPDX-License-Identifier: Apache-2.0
"""The schedules of the matrix: each asks vLLM in its own way and returns the answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrix_table import SCHEDULES
from served_llm import Answer, ServedLLM

TOKENS = 6
CHUNK = 64


def tokens(count: int, seed: str) -> list[int]:
    """Return token ids as a tokenizer would give them: any, and the same each time."""
    source = random.Random(seed)
    return [source.randrange(3, 2000) for _ in range(count)]


ALONE = {name: [tokens(size, f"{name} {size}") for size in (341, 230)] for name in SCHEDULES}
CROWD = {
    name: [tokens(150, name) + tokens(30 + 9 * i, f"{name} {i}") for i in range(8)]
    for name in SCHEDULES
}
# Each answer goes on past token 320, where blocks of 32, 64 and 160 tokens end; models with windows
# give blocks back meanwhile, so it needs more than one.
NO_ROOM = [tokens(40, "no room") + tokens(185 + 8 * i, f"no room {i}") for i in range(8)]
NO_ROOM_ANSWER = 100
REPEATING = [tokens(12, f"phrase {i}") * 22 for i in range(2)]  # for n-grams to be found in


@dataclass(frozen=True)
class Schedule:
    """How vLLM is asked, and what the cache must find when it is asked again."""

    ask: Callable[[ServedLLM], list[Answer]]
    found_tokens: tuple[int, ...] | None = None  # for each answer; None: not predictable
    again: Callable[[ServedLLM], list[Answer]] | None = None  # if not the same
    cached: bool = True  # False: nothing is to be found


def one_by_one(prompts: Sequence[Sequence[int]], max_tokens: int = TOKENS, **options: Any) -> Any:
    return lambda llm: [llm.ask_one(prompt, max_tokens, **options) for prompt in prompts]


def together(prompts: Sequence[Sequence[int]], max_tokens: int = TOKENS) -> Any:
    return lambda llm: llm.ask(prompts, max_tokens)


def structured(llm: ServedLLM) -> list[Answer]:
    """Digits only: the grammar decides which tokens there are."""
    from vllm.sampling_params import StructuredOutputsParams

    digits = StructuredOutputsParams(regex="[0-9]{40}")
    prompts = ALONE["structured output"]
    return [llm.ask_one(prompt, TOKENS, structured_outputs=digits) for prompt in prompts]


def several_answers(llm: ServedLLM) -> list[Answer]:
    """Two answers a prompt. Drawn, not greedy, which gives one only; the best token is drawn."""
    from vllm import SamplingParams

    assert llm.llm.reset_prefix_cache()
    drawn = SamplingParams(n=2, top_k=1, max_tokens=TOKENS, logprobs=5, ignore_eos=True)
    asked = [{"prompt_token_ids": prompt} for prompt in ALONE["several answers"]]
    outputs = llm.llm.generate(asked, drawn, use_tqdm=False)
    return [answer for output in outputs for answer in answers_of(output)]


def answers_of(output: Any) -> list[Answer]:
    """Return every answer to a prompt."""
    cached = int(output.num_cached_tokens or 0)
    return [
        Answer(
            tuple(one.token_ids),
            tuple({t: entry.logprob for t, entry in place.items()} for place in one.logprobs),
            cached,
        )
        for one in output.outputs
    ]


def aborted(llm: ServedLLM) -> list[Answer]:
    """Requests are given up after some steps; then the same prompts are asked in full."""
    from vllm import SamplingParams

    engine = llm.llm.llm_engine
    for steps, prompt in enumerate(ALONE["aborted"] * 2):
        name = f"aborted-{steps}"
        engine.add_request(name, {"prompt_token_ids": prompt}, SamplingParams(max_tokens=50))
        for _ in range(steps):
            engine.step()
        engine.abort_request([name])
        while engine.has_unfinished_requests():
            engine.step()
    llm.settle()
    return one_by_one(ALONE["aborted"])(llm)


def embeddings(llm: ServedLLM) -> list[Answer]:
    """Prompts as vectors: no tokens, so no key, so no cache."""
    from safetensors.torch import load_file
    from vllm import SamplingParams

    assert llm.llm.reset_prefix_cache()
    folder = Path(llm.llm.llm_engine.vllm_config.model_config.model)
    weights = load_file(folder / "model.safetensors")
    table = next(w for name, w in weights.items() if name.endswith("embed_tokens.weight"))
    asked = [{"prompt_embeds": table[prompt] * 0.9} for prompt in ALONE["prompt embeddings"]]
    greedy = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=5, ignore_eos=True)
    outputs = [llm.llm.generate(one, greedy, use_tqdm=False)[0] for one in asked]
    return [answers_of(output)[0] for output in outputs]


def all_but_one(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return what is found of prompts that come again: the last token is always computed."""
    return tuple(len(prompt) - 1 for prompt in prompts)


def ask_again(schedule: Schedule, llm: ServedLLM) -> list[Answer]:
    """Ask what is to be found in the cache."""
    return (schedule.again or schedule.ask)(llm)


WORK: dict[str, Schedule] = {
    name: Schedule(one_by_one(ALONE[name]), all_but_one(ALONE[name]))
    for name in ("one by one", "reset", "no prefix caching")
}
EXTENDED = [prompt + tokens(40 + len(prompt), "more") for prompt in ALONE["extended"]]
WORK |= {
    "extended": Schedule(
        one_by_one(ALONE["extended"]),
        tuple(map(len, ALONE["extended"])),
        again=one_by_one(EXTENDED),
    ),
    "one token": Schedule(one_by_one(ALONE["one token"], 1), all_but_one(ALONE["one token"])),
    "together": Schedule(together(CROWD["together"])),
    "chunked prefill": Schedule(together(CROWD["chunked prefill"])),
    "preemption": Schedule(together(NO_ROOM, NO_ROOM_ANSWER)),
    "structured output": Schedule(structured, all_but_one(ALONE["structured output"])),
    "several answers": Schedule(several_answers),
    "aborted": Schedule(aborted, all_but_one(ALONE["aborted"])),
    "prompt embeddings": Schedule(embeddings, cached=False),
    "n-gram speculation": Schedule(one_by_one(REPEATING, 20), all_but_one(REPEATING)),
}
