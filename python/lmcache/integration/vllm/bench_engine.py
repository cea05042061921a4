# SPDX-License-Identifier: Apache-2.0
"""A vLLM engine in a process of its own that does what it is told on standard input.

    python -m lmcache.integration.vllm.bench_engine OPTIONS FD

OPTIONS is a JSON object: `model`, `max_model_len`, and `lmcache_config` (null: vLLM without us).
Commands and answers are JSON, one a line; the answers go to descriptor FD, since vLLM and
its libraries write to the standard ones as they like:

    {"do": "run", "prompts": [[ids]], "tokens": n}  -> {"answers": [TimedAnswer], "wall_s": s}
    {"do": "encode", "texts": [text]}               -> {"ids": [[ids]]}
    {"do": "reset"}                -> {"emptied": bool}   vLLM's own prefix cache
    {"do": "switch", "to": name}   -> {}                  a connector: "lmcache", "none", "idle"
    end of input                   -> the process ends
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from lmcache.integration.vllm.timed_request import run_together


def main() -> None:
    """Serve the commands on standard input until it ends."""
    options = json.loads(sys.argv[1])
    answers = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    llm = _open(options)
    switch = Switch(llm)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if command["do"] == "reset":
            settle(llm)
            answer = {"emptied": bool(llm.reset_prefix_cache())}
        elif command["do"] == "switch":
            switch.turn(command["to"])
        elif command["do"] == "encode":
            tokenizer = llm.get_tokenizer()
            answer["ids"] = [
                tokenizer.encode(text, add_special_tokens=False) for text in command["texts"]
            ]
        else:
            answer = _run(llm, command["prompts"], command["tokens"])
        print(json.dumps(answer), file=answers)


def _run(llm: Any, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    from vllm import SamplingParams

    # ignore_eos: as many tokens as asked for, so that times per token can be compared
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    began = time.perf_counter()
    answers = run_together(llm, prompts, sampling)
    settle(llm)
    wall_s = time.perf_counter() - began
    return {"answers": [answer.as_dict() for answer in answers], "wall_s": wall_s}


def settle(llm: Any) -> None:
    """Let an engine of this process run empty steps until what it answered is stored."""
    core = llm.llm_engine.engine_core.engine_core
    while core.scheduler.has_finished_requests():
        core.step_fn()


class Switch:
    """Takes the connector out of a vLLM whose scheduler and worker run in this process, or puts one
    in that does nothing, so that engines can be compared that have their weights in the same place.
    """

    def __init__(self, llm: Any) -> None:
        from vllm.distributed.kv_transfer import kv_transfer_state

        self._scheduler = llm.llm_engine.engine_core.engine_core.scheduler
        self._worker = kv_transfer_state
        ours = (self._scheduler.connector, self._worker._KV_CONNECTOR_AGENT)
        self._halves = {"lmcache": ours, "none": (None, None), "idle": _idle(*ours)}

    def turn(self, to: str) -> None:
        """Put LMCache's connector in ("lmcache"), none ("none"), or an idle one ("idle")."""
        self._scheduler.connector, self._worker._KV_CONNECTOR_AGENT = self._halves[to]


def _idle(*ours: Any) -> tuple[Any, ...]:
    from lmcache.integration.vllm.idle_connector import IdleConnector

    return tuple(  # a vLLM that never had a connector gets none
        half and IdleConnector(half._vllm_config, half.role, half._kv_cache_config) for half in ours
    )


def _open(options: dict[str, Any]) -> Any:
    from vllm import LLM

    ours: dict[str, Any] = {}
    if options["lmcache_config"] is not None:
        ours = {"enable_lmcache": True, "lmcache_config": options["lmcache_config"]}
    return LLM(
        model=options["model"],
        max_model_len=options["max_model_len"],
        dtype=options["dtype"],
        enforce_eager=True,
        disable_log_stats=True,
        **ours,
    )


if __name__ == "__main__":
    main()
