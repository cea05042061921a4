# SPDX-License-Identifier: Apache-2.0
"""Requests on a real vLLM engine, step by step, with the time of each token."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TimedAnswer:
    """What one request gave and how long it took.

    `token_times_s[i]` is when token i was there, in seconds after the request was added; the first
    is the time to first token.
    """

    token_times_s: list[float]
    token_ids: list[int]
    text: str
    prompt_tokens: int
    cached_tokens: int  # prompt tokens whose KV was reused, from whichever cache

    @property
    def ttft_s(self) -> float:
        """Time to first token, in seconds."""
        return self.token_times_s[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can carry them."""
        return asdict(self)


def run_timed(llm: Any, prompt_token_ids: list[int], sampling: Any) -> TimedAnswer:
    """Run one request to its end on an otherwise idle `vllm.LLM`. Blocks."""
    [answer] = run_together(llm, [prompt_token_ids], sampling)
    return answer


def run_together(llm: Any, prompts: list[list[int]], sampling: Any) -> list[TimedAnswer]:
    """Submit requests at once to an otherwise idle `vllm.LLM` and run all of them to their end.
    Times count from before the first was added. Blocks.
    """
    engine = llm.llm_engine
    times: dict[str, list[float]] = {}
    outputs: dict[str, Any] = {}
    began = time.perf_counter()
    for number, prompt_token_ids in enumerate(prompts):
        request_id = f"timed-{time.monotonic_ns()}-{number}"
        times[request_id] = []
        engine.add_request(request_id, {"prompt_token_ids": prompt_token_ids}, sampling)
    while engine.has_unfinished_requests():
        for output in engine.step():
            mine = times.get(output.request_id)
            if mine is None or not output.outputs:
                continue
            outputs[output.request_id] = output
            new = len(output.outputs[0].token_ids) - len(mine)
            mine += [time.perf_counter() - began] * new
    if outputs.keys() != times.keys():
        raise RuntimeError("vLLM ended a request without an answer")
    return [_answer(outputs[request_id], mine) for request_id, mine in times.items()]


def _answer(output: Any, times: list[float]) -> TimedAnswer:
    return TimedAnswer(
        token_times_s=times,
        token_ids=list(output.outputs[0].token_ids),
        text=output.outputs[0].text.strip(),
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
    )
