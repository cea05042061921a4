# SPDX-License-Identifier: Apache-2.0
"""What changes KV keeps prompts apart, what does not change it lets them be found. Adapters, salts,
weights and block sizes are in test_sharing.py, images in test_images.py.
"""

from __future__ import annotations

import random

import pytest

CHUNK = 64
PROMPT = [random.Random(21).randrange(3, 2000) for _ in range(4 * CHUNK + 19)]


@pytest.fixture(scope="module")
def cached_with(open_llm, segment):
    """Return a function that starts an engine on a segment that has the prompt."""
    config = {"chunk_size": CHUNK, "segment": segment, "max_local_cpu_size": 0.3}
    settings = {"block_size": 32, "enable_lmcache": True, "lmcache_config": config}
    llm = open_llm(**settings)
    assert llm.ask_one(PROMPT).cached_tokens == 0
    assert llm.ask_one(PROMPT).cached_tokens == len(PROMPT) - 1
    return lambda **changes: open_llm(**settings | changes)


def test_names_under_which_a_model_is_served_do_not_matter(cached_with):
    llm = cached_with(served_model_name=["an alias", "another"])
    assert llm.ask_one(PROMPT).cached_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("other", ["fp8", "fp8_e5m2"])
def test_quantised_kv_is_apart(cached_with, other):
    llm = cached_with(kv_cache_dtype=other)
    first, again = llm.ask_one(PROMPT), llm.ask_one(PROMPT)
    assert (first.cached_tokens, again.cached_tokens) == (0, len(PROMPT) - 1)
    assert again.differs_from(first) == ""
