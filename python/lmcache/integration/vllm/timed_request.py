# SPDX-License-Identifier: Apache-2.0
"""One request on a real vLLM engine, step by step, with the time of each token."""

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
    engine = llm.llm_engine
    times: list[float] = []
    output: Any = None
    began = time.perf_counter()
    request_id = f"timed-{time.monotonic_ns()}"
    engine.add_request(request_id, {"prompt_token_ids": prompt_token_ids}, sampling)
    while engine.has_unfinished_requests():
        for current in engine.step():
            if current.request_id != request_id or not current.outputs:
                continue
            output = current
            new = len(current.outputs[0].token_ids) - len(times)
            times += [time.perf_counter() - began] * new
    if output is None:
        raise RuntimeError("vLLM ended a request without an answer")
    return TimedAnswer(
        token_times_s=times,
        token_ids=list(output.outputs[0].token_ids),
        text=output.outputs[0].text.strip(),
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
    )
