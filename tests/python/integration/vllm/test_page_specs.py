# SPDX-License-Identifier: Apache-2.0
"""What is said of pages: two texts are equal only if the pages may be exchanged."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("vllm", reason="the specifications are vLLM's")

import torch
from engine_config import BLOCK_TOKENS, make_spec
from vllm.v1.kv_cache_interface import MambaSpec

from lmcache.integration.vllm.page_specs import dtype_text, spec_text


def states(*dtypes, shapes=((3, 40), (2, 16, 8))):
    return MambaSpec(block_size=BLOCK_TOKENS, shapes=shapes, dtypes=dtypes)


def test_types():
    assert dtype_text(make_spec(dtype=torch.bfloat16)) == "bfloat16"
    assert dtype_text(states(torch.float32, torch.float32)) == "float32"
    assert dtype_text(states(torch.bfloat16, torch.float32)) == "bfloat16+float32"


def test_the_text_is_json_and_the_same_each_time():
    assert json.loads(spec_text(make_spec()))["spec"] == "FullAttentionSpec"
    assert spec_text(make_spec()) == spec_text(make_spec())


@pytest.mark.parametrize(
    "change", [{"num_kv_heads": 1}, {"head_size": 128}, {"head_size_v": 128}, {"sliding_window": 9}]
)
def test_other_pages_are_another_text(change):
    assert spec_text(make_spec(**change)) != spec_text(make_spec())


def test_other_states_are_another_text():
    kept = (torch.float32, torch.float32)
    texts = {
        spec_text(states(*kept)),
        spec_text(states(*kept, shapes=((2, 16, 8), (3, 40)))),
        spec_text(states(torch.float32, torch.bfloat16)),
    }
    assert len(texts) == 3
