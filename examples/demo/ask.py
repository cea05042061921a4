# SPDX-License-Identifier: Apache-2.0
"""One vLLM engine in a process of its own: asks the questions, reports answers as JSON lines.

python ask.py JOB, where JOB is a JSON object (see `run_engine` in demo.py); the lines go to
descriptor 3, since vLLM and its libraries write to the other two as they like.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    job = json.loads(sys.argv[1])
    report = os.fdopen(3, "w", buffering=1)

    def say(**event: Any) -> None:
        report.write(json.dumps(event) + "\n")

    from vllm import LLM, SamplingParams

    options: dict[str, Any] = {}
    if job["segment"]:
        # This is all that a user adds to switch the cache on.
        options = {"enable_lmcache": True, "lmcache_config": job["lmcache_config"]}
    llm = LLM(
        model=job["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=4096,
        disable_log_stats=True,
        **options,
    )
    prompts = [ask(llm, job["document"], question) for question in job["questions"]]
    sampling = SamplingParams(temperature=0.0, max_tokens=job["answer_tokens"])
    generate(
        llm, {"prompt_token_ids": list(range(100, 140))}, sampling
    )  # the first step ever is slow
    say(event="ready")
    for way in job["ways"]:
        for number, prompt in enumerate(prompts):
            if way["clear"] and job["segment"]:
                from lmcache import _native

                _native.clear_segment(_native.segment_path(job["segment"]))
            llm.reset_prefix_cache()  # what is reused does not come from vLLM's own cache
            answer = generate(llm, prompt, sampling)
            say(event="answer", way=way["name"], question=number, **answer)
            time.sleep(0.3)  # stores end behind the step loop; the next question must find them


def ask(llm: Any, document: str, question: str) -> dict[str, Any]:
    """Return the prompt of one question about the document, in the model's chat template."""
    tokenizer = llm.get_tokenizer()
    text = f"{document}\n\nQuestion: {question} Answer in one sentence."
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    return {"prompt_token_ids": list(ids)}


def generate(llm: Any, prompt: dict[str, Any], sampling: Any) -> dict[str, Any]:
    """Run one request step by step, and time its first token."""
    engine = llm.llm_engine
    began = time.perf_counter()
    engine.add_request(str(time.monotonic_ns()), prompt, sampling)
    first = None
    output = None
    while engine.has_unfinished_requests():
        for output in engine.step():
            if first is None and output.outputs and output.outputs[0].token_ids:
                first = time.perf_counter() - began
    assert output is not None
    assert first is not None
    return {
        "ttft_s": first,
        "prompt_tokens": len(output.prompt_token_ids),
        "reused_tokens": output.num_cached_tokens or 0,
        "token_ids": list(output.outputs[0].token_ids),
        "text": output.outputs[0].text.strip(),
    }


if __name__ == "__main__":
    main()
