# SPDX-License-Identifier: Apache-2.0
"""A vLLM engine in a process of its own that does what it is told on standard input.

    python -m lmcache.integration.vllm.bench_engine OPTIONS

OPTIONS is a JSON object: `model`, `max_model_len`, and `lmcache_config` (null: vLLM without us).
Commands and answers are JSON, one a line; the answers go to descriptor 3, since vLLM and its
libraries write to the other two as they like:

    {"do": "run", "prompt": [ids], "tokens": n}   -> a TimedAnswer
    {"do": "reset"}                               -> {}   vLLM's own prefix cache is emptied
    end of input                                  -> the process ends
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from lmcache.integration.vllm.timed_request import run_timed


def main() -> None:
    """Serve the commands on standard input until it ends."""
    options = json.loads(sys.argv[1])
    answers = os.fdopen(3, "w", buffering=1)
    llm = _open(options)
    from vllm import SamplingParams

    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "reset":
            llm.reset_prefix_cache()
            answer: dict[str, Any] = {}
        else:
            # ignore_eos: as many tokens as asked for, so that times per token can be compared
            sampling = SamplingParams(
                temperature=0.0, max_tokens=command["tokens"], ignore_eos=True
            )
            answer = run_timed(llm, command["prompt"], sampling).as_dict()
        print(json.dumps(answer), file=answers)


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
