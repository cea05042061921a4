# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct with vLLM's own block size and our own chunk size: questions about one
document.
"""

from __future__ import annotations

import os

import pytest

CPUS = len(os.sched_getaffinity(0))
DOCUMENT = (
    "The lighthouse of Tenby was built in 1848 by the engineer Ada Morrow. It is 31 metres high, "
    "painted white and red, and its lamp is seen from 24 miles away. The keeper keeps bees. "
)
QUESTIONS = ["Who built the lighthouse?", "How high is it?", "What does the keeper keep?"]


@pytest.fixture(scope="module")
def prompts(real_model) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_model)
    texts = [DOCUMENT * 10 + f"\nQuestion: {question}\nAnswer:" for question in QUESTIONS]
    return [tokenizer(text)["input_ids"] for text in texts]


@pytest.fixture(scope="module")
def reference(open_llm, real_model, prompts):
    llm = open_llm(model=str(real_model), threads=CPUS)
    return [llm.ask_one(prompt, 12) for prompt in prompts]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_questions_about_one_document(open_llm, real_model, prompts, reference, segment):
    settings = {
        "model": str(real_model),
        "threads": CPUS,
        "enable_lmcache": True,
        "lmcache_config": {"segment": segment, "max_local_cpu_size": 0.5},
    }
    shared = next(i for i, (a, b) in enumerate(zip(*prompts[:2], strict=False)) if a != b)
    assert shared > 400
    for life in range(2):
        llm = open_llm(**settings)
        for i, (prompt, right) in enumerate(zip(prompts, reference, strict=True)):
            answer = llm.ask_one(prompt, 12)
            assert answer.differs_from(right) == ""
            if life == 1:
                assert answer.cached_tokens == len(prompt) - 1
            elif i > 0:
                assert answer.cached_tokens >= shared
