# SPDX-License-Identifier: Apache-2.0
"""Too little memory on either side: a segment that evicts all the time, a vLLM that preempts."""

from __future__ import annotations

import random

import pytest

CHUNK = 64
BLOCKS = 40  # of 32 tokens: 1,280 tokens of KV for all requests together


def prompt(seed: int, size: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 2000) for _ in range(size)]


STEMS = [prompt(i, 3 * CHUNK + 10 * i) for i in range(8)]
WAVES = [[stem + prompt(100 * wave + i, 20) for i, stem in enumerate(STEMS)] for wave in range(5)]


@pytest.fixture(scope="module")
def reference(open_llm):
    llm = open_llm(block_size=32)
    return {tuple(asked): llm.ask_one(asked, 60) for wave in WAVES for asked in wave}


@pytest.mark.parametrize("conversation", [False, True], ids=["prompts", "answers too"])
def test_everything_is_short_of_memory(open_llm, reference, conversation):
    """One chunk takes 256 kB here, so some 60 fit; five waves of eight prompts need 160 and more."""
    config = {"chunk_size": CHUNK, "segment": "private", "max_local_cpu_size": 0.018}
    config["conversation_mode"] = conversation
    llm = open_llm(
        block_size=32,
        num_gpu_blocks_override=BLOCKS,
        max_num_batched_tokens=256,
        enable_lmcache=True,
        lmcache_config=config,
    )
    cached = 0
    preemptions = count_preemptions(llm)
    for wave in [*WAVES, *WAVES[::-1]]:
        llm.settle()
        for asked, answer in zip(wave, llm.ask(wave, 60), strict=True):
            assert answer.differs_from(reference[tuple(asked)]) == ""
            cached += answer.cached_tokens
    status = llm.worker._attachment.engine.status()
    assert cached > 0
    assert len(preemptions) > 0
    assert status["total"]["evicted_chunks"] > 0
    assert status["leased"] == 0
    assert status["writing"] == 0


def count_preemptions(llm) -> list[str]:
    """Return a list that grows with every request vLLM preempts from now on."""
    scheduler, seen = llm.core.scheduler, []
    original = scheduler._preempt_request

    def preempt(request, *arguments, **options):
        seen.append(request.request_id)
        return original(request, *arguments, **options)

    scheduler._preempt_request = preempt
    return seen
