# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

from lmcache.bench.vllm_documents import document, question, sentence


def test_the_same_numbers_give_the_same_text() -> None:
    texts = [document(random.Random(seed), "Title", 20) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("Title\n\n")
    assert texts[0].count(" crowns.") == 20


def test_sentences_differ() -> None:
    draw = random.Random(0)
    assert len({sentence(draw) for _ in range(1000)}) == 1000


def test_questions_are_filled_in() -> None:
    draw = random.Random(0)
    asked = {question(draw) for _ in range(1000)}
    assert len(asked) > 50
    assert not any("{" in text or "  " in text for text in asked)
