# SPDX-License-Identifier: Apache-2.0
"""Latent attention where vLLM continues a prompt, which of CPUs are those with AMX.

Its kernels there take bfloat16 only, and a token computed alone has other log-probabilities than
the same token as a part of more, by 0.03. So what we bring back is compared with what vLLM's own
cache brings back, cut at the same block.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from matrix_engines import model_folder

FLAGS = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
pytestmark = pytest.mark.skipif("amx_tile" not in FLAGS, reason="this CPU has no AMX")

BLOCK = 32
PROMPTS = [list(range(3 + 7 * i, 3 + 7 * i + 200 + 13 * i)) for i in range(4)]
SETTINGS = {"model": "deepseek-mla", "dtype": "bfloat16", "block_size": BLOCK}


def test_what_comes_back_is_what_vllms_own_cache_gives(open_llm, segment):
    settings = SETTINGS | {"model": str(model_folder("deepseek-mla"))}
    alone = open_llm(**settings)
    for prompt in PROMPTS:
        alone.ask_one(prompt, 8, forget=False)
    reference = [alone.ask_one(prompt, 8, forget=False) for prompt in PROMPTS]
    cached = open_llm(
        **settings,
        enable_lmcache=True,
        lmcache_config={
            "segment": segment,
            "max_local_cpu_size": 0.1,
            "chunk_size": BLOCK,
            "save_unfull_chunk": False,
        },
    )
    for prompt in PROMPTS:
        assert cached.ask_one(prompt, 8).cached_tokens == 0
    cached.settle()
    for prompt, right in zip(PROMPTS, reference, strict=True):
        answer = cached.ask_one(prompt, 8)
        assert answer.cached_tokens == right.cached_tokens == len(prompt) // BLOCK * BLOCK
        assert answer.differs_from(right) == ""
