# SPDX-License-Identifier: Apache-2.0
"""Output with the cache equals output without it, to the token and to 1e-4 in log-probability, for
prompts that end and part anywhere. Every case counts its hits, so none passes with the cache off.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

BLOCK, CHUNK, BUDGET = 32, 64, 256  # tokens; the budget is what one step computes
SETTINGS: dict[str, Any] = {"block_size": BLOCK, "max_num_batched_tokens": BUDGET}


def tokens(count: int, seed: int) -> list[int]:
    """Return token ids as a tokenizer would give them: any, and the same each time."""
    source = random.Random(seed)
    return [source.randrange(3, 2000) for _ in range(count)]


SIZES = {
    "two tokens": 2,
    "shorter than a block": 20,
    "a block": BLOCK,
    "shorter than a chunk": 50,
    "exactly a chunk": CHUNK,
    "a chunk and a token": CHUNK + 1,
    "many chunks": 4 * CHUNK,
    "many chunks and a tail": 4 * CHUNK + 44,
    "longer than a step, so prefilled in pieces": 4 * BUDGET - 13,
}
STEM = tokens(5 * CHUNK, seed=1000)
PARTINGS = {
    "in the middle of a block": 2 * CHUNK + BLOCK + 7,
    "in the middle of a chunk": 2 * CHUNK + BLOCK,
    "between two chunks": 2 * CHUNK,
    "just after a chunk": 2 * CHUNK + 5,
    "early in the first chunk": 20,
}


def sized(name: str) -> list[int]:
    return tokens(SIZES[name], seed=SIZES[name])


def parted(name: str) -> list[int]:
    return STEM[: PARTINGS[name]] + tokens(70, seed=len(name))


EXTENSIONS = {size: STEM + tokens(size, seed=2000 + size) for size in (1, 10, BLOCK, 100)}
CONCURRENT = [STEM + tokens(30 + i, seed=3000 + i) for i in range(8)]


@pytest.fixture(scope="module")
def reference(open_llm) -> dict[tuple[int, ...], Any]:
    """The answers of vLLM without a cache."""
    llm = open_llm(**SETTINGS)
    prompts = [sized(name) for name in SIZES] + [parted(name) for name in PARTINGS]
    prompts += [STEM, *EXTENSIONS.values(), *CONCURRENT]
    answers = {tuple(prompt): llm.ask_one(prompt) for prompt in prompts}
    assert all(answer.cached_tokens == 0 for answer in answers.values())
    return answers


@pytest.fixture(scope="module")
def llm(open_llm, reference, segment):
    config = {"chunk_size": CHUNK, "segment": segment, "max_local_cpu_size": 0.5}
    return open_llm(**SETTINGS, enable_lmcache=True, lmcache_config=config)


@pytest.fixture
def check(llm, reference):
    """Return a function that asks, compares with the answer without a cache, returns the hit."""

    def ask(prompt, **options):
        before = llm.loaded_tokens()
        answer = llm.ask_one(prompt, **options)
        assert answer.differs_from(reference[tuple(prompt)]) == ""
        # What vLLM took from the connector was really copied (whole blocks of it), and nothing
        # else.
        copied = llm.loaded_tokens() - before
        assert answer.cached_tokens <= copied < answer.cached_tokens + BLOCK
        return answer.cached_tokens

    return ask


@pytest.mark.parametrize("name", SIZES)
def test_a_prompt_that_comes_again(check, name):
    assert check(sized(name)) == 0
    assert check(sized(name)) == SIZES[name] - 1


@pytest.mark.parametrize("size", EXTENSIONS)
def test_a_prompt_that_extends_a_stored_one(check, size):
    check(STEM)
    assert check(EXTENSIONS[size]) == len(STEM)
    assert check(EXTENSIONS[size]) == len(STEM) + size - 1


@pytest.mark.parametrize("name", PARTINGS)
def test_prompts_that_part(check, name):
    check(STEM)
    assert check(parted(name)) == PARTINGS[name]


def test_eight_concurrent_requests_with_a_shared_prefix(llm, check, reference):
    check(STEM)
    before = llm.loaded_tokens()
    answers = llm.ask(CONCURRENT)
    for prompt, answer in zip(CONCURRENT, answers, strict=True):
        assert answer.differs_from(reference[tuple(prompt)]) == ""
        assert answer.cached_tokens == len(STEM)
    # Single flight: the first request loads, the others share its blocks.
    assert len(STEM) <= llm.loaded_tokens() - before < 2 * len(STEM)


def test_a_prefix_that_vllm_has_in_part_is_loaded_from_there(llm, check, reference):
    from vllm import SamplingParams

    check(EXTENSIONS[100])
    llm.llm.reset_prefix_cache()
    one_token = SamplingParams(temperature=0, max_tokens=1)
    begun = {"prompt_token_ids": STEM[: 3 * BLOCK + 5]}  # leaves 3 blocks in vLLM's own cache
    llm.llm.generate([begun], one_token, use_tqdm=False)
    before = llm.loaded_tokens()
    again = SamplingParams(temperature=0, max_tokens=4, logprobs=5, ignore_eos=True)
    asked = [{"prompt_token_ids": EXTENSIONS[100]}]
    (output,) = llm.llm.generate(asked, again, use_tqdm=False)
    answer = llm._answer(output)
    assert answer.differs_from(reference[tuple(EXTENSIONS[100])]) == ""
    total = len(EXTENSIONS[100])
    assert answer.cached_tokens == total - 1
    assert total - 1 - 3 * BLOCK <= llm.loaded_tokens() - before < total - 3 * BLOCK + BLOCK


@pytest.mark.parametrize("layerwise", [True, False])
def test_loading_layer_by_layer_or_at_once(llm, check, layerwise):
    half = llm.worker
    kept, half._layerwise = half._layerwise, 0 if layerwise else None
    try:
        check(STEM)
        for prompt in (parted("in the middle of a block"), EXTENSIONS[10], STEM):
            check(prompt)
            assert check(prompt) == len(prompt) - 1
    finally:
        half._layerwise = kept


def test_requests_that_may_not_read_are_computed(check):
    check(STEM)
    assert check(STEM, skip_reading_prefix_cache=True) == 0


def test_aborted_requests_leave_nothing_behind(llm, check, reference):
    from vllm import SamplingParams

    engine = llm.llm.llm_engine
    prompt = sized("longer than a step, so prefilled in pieces")
    for steps in range(5):
        name = f"aborted-{steps}"
        parameters = SamplingParams(temperature=0, max_tokens=50)
        engine.add_request(name, {"prompt_token_ids": prompt}, parameters)
        for _ in range(steps):
            engine.step()
        engine.abort_request([name])
        while engine.has_unfinished_requests():
            engine.step()
    assert check(prompt) in (0, len(prompt) - 1)  # as other tests left it
    assert check(prompt) == len(prompt) - 1
    status = llm.worker._attachment.engine.status()
    assert status["leased"] == 0
    assert status["writing"] == 0


def test_a_reset_of_the_connector_forgets(llm, check):
    check(STEM)
    assert llm.llm.reset_prefix_cache(reset_connector=True)
    assert check(STEM) == 0
    assert check(STEM) == len(STEM) - 1
