# SPDX-License-Identifier: Apache-2.0
"""Prompts with images: the same text with another image is another prompt."""

from __future__ import annotations

from typing import Any

import pytest
from matrix_engines import model_folder
from matrix_schedules import answers_of

pytest.importorskip("torchvision", reason="torchvision is not installed")
pytestmark = pytest.mark.matrix

CHUNK = 32
IMAGE_TOKENS = 64
TEXT = "what is there to be seen, and where, and how many, and why " * 4


def image(seed: int) -> Any:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def settings() -> dict[str, Any]:
    return {
        "model": str(model_folder("paligemma")),
        "block_size": 32,
        "max_model_len": 1024,
        "max_num_seqs": 4,
    }


def ask(llm: Any, seed: int | None, text: str = TEXT) -> Any:
    """Ask about an image, or without one."""
    from vllm import SamplingParams

    assert llm.llm.reset_prefix_cache()
    asked: dict[str, Any] = {"prompt": text}
    if seed is not None:
        asked["multi_modal_data"] = {"image": image(seed)}
    greedy = SamplingParams(temperature=0, max_tokens=6, logprobs=5, ignore_eos=True)
    (output,) = llm.llm.generate(asked, greedy, use_tqdm=False)
    return answers_of(output)[0]


@pytest.fixture(scope="module")
def reference(open_llm) -> dict[int, Any]:
    llm = open_llm(**settings())
    answers = {seed: ask(llm, seed) for seed in (1, 2)}
    assert answers[1].differs_from(answers[2])  # what is seen matters
    return answers


def test_an_image_belongs_to_the_key(open_llm, reference):
    config = {"chunk_size": CHUNK, "segment": "private", "max_local_cpu_size": 0.3}
    llm = open_llm(**settings(), enable_lmcache=True, lmcache_config=config)
    for seed in (1, 2):  # nothing of the first image is found for the second
        answer = ask(llm, seed)
        assert answer.differs_from(reference[seed]) == ""
        assert answer.cached_tokens == 0
    for seed in (1, 2):
        answer = ask(llm, seed)
        assert answer.differs_from(reference[seed]) == ""
        assert answer.cached_tokens > IMAGE_TOKENS
    assert ask(llm, 1, TEXT + "else").cached_tokens > IMAGE_TOKENS
