# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lmcache.bench.vllm_workloads import TOGETHER, WORKLOADS, Ask, Sizes

ANSWER = [7, 8, 9]
SIZES = Sizes(context_tokens=400, requests=6, answer_tokens=3, seed=0)
_IDS: dict[str, int] = {}


def words(texts: list[str]) -> list[list[int]]:
    """A tokenizer: one token a word, from 3000 on."""
    return [[3000 + _IDS.setdefault(word, len(_IDS)) for word in text.split()] for text in texts]


def played(name: str, sizes: Sizes = SIZES, encode: Any = words) -> list[Ask]:
    play = WORKLOADS[name].play(sizes, encode)
    asked = [next(play)]
    try:
        while True:
            asked.append(play.send([ANSWER for _ in asked[-1].prompts]))
    except StopIteration:
        return asked


def shared(left: list[int], right: list[int]) -> int:
    both = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(left), len(right)))


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    def text(number: int, turn: int) -> str:
        return f"{number} {turn} " + "word " * (20 if turn % 2 == 0 else 200)

    entries = [
        {
            "conversations": [
                {"from": ("human", "gpt")[turn % 2], "value": text(number, turn)}
                for turn in range(12)
            ]
        }
        for number in range(9)
    ]
    path = tmp_path / "talks.json"
    path.write_text(json.dumps(entries))
    return path


def test_each_round_goes_on_with_what_was_said(talks: Path) -> None:
    sizes = Sizes(context_tokens=400, requests=6, answer_tokens=3, seed=0, conversations=talks)
    asked = played("multi-round", sizes)
    assert [ask.measured for ask in asked] == [False, True, True, True] * 2
    prompts = [ask.prompts[0] for ask in asked]
    for before, after in pairwise(prompts[:4]):
        begin = before + ANSWER
        assert after[: len(begin)] == begin
        assert 20 <= len(after) - len(begin) <= 40
    assert 400 <= len(prompts[0]) <= 700
    assert shared(prompts[3], prompts[4]) < 10
    assert max(map(len, prompts)) + 3 <= sizes.longest_tokens


def test_questions_over_documents_that_were_asked_for_before() -> None:
    asked = played("rag")
    assert [ask.measured for ask in asked] == [False] * 3 + [True] * 6
    prompts = [ask.prompts[0] for ask in asked]
    for number, prompt in enumerate(prompts[3:]):
        before = prompts[number % 3]
        assert len(prompt) > shared(prompt, before) >= len(prompt) - 20
    # The first documents are the same in all three, the last are not.
    assert 150 < shared(prompts[0], prompts[2]) < shared(prompts[0], prompts[1]) < 350


def test_questions_about_one_document() -> None:
    asked = played("long-doc")
    assert [ask.measured for ask in asked] == [False] + [True] * 6
    first = asked[0].prompts[0]
    assert 360 <= len(first) <= 480
    for ask in asked[1:]:
        assert shared(first, ask.prompts[0]) >= len(first) - 20
    assert len({tuple(ask.prompts[0]) for ask in asked}) == 7


def test_a_batch_asks_about_one_document_at_once() -> None:
    asked = played("batch")
    assert [len(ask.prompts) for ask in asked] == [1, TOGETHER] * 2
    assert [ask.measured for ask in asked] == [False, True] * 2
    for before, batch in (asked[:2], asked[2:]):
        for prompt in batch.prompts:
            assert shared(before.prompts[0], prompt) >= len(prompt) - 20
    assert shared(asked[0].prompts[0], asked[2].prompts[0]) < 50


def test_without_reuse_not_one_token_is_in_common() -> None:
    asked = played("no-reuse")
    assert [ask.measured for ask in asked] == [True] * 6
    prompts = [ask.prompts[0] for ask in asked]
    assert {len(prompt) for prompt in prompts} == {400}
    assert len({prompt[0] for prompt in prompts}) == 6


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "multi-round"])
def test_the_seed_decides_and_sizes_hold(name: str) -> None:
    asked = played(name)
    other = Sizes(context_tokens=400, requests=6, answer_tokens=3, seed=1)
    assert asked == played(name) != played(name, other)
    prompts = [prompt for ask in asked for prompt in ask.prompts]
    assert max(map(len, prompts)) + 3 <= SIZES.longest_tokens
    distinct = {tuple(prompt[: i + 1]) for prompt in prompts for i in range(len(prompt))}
    room = WORKLOADS[name].stored_tokens(SIZES)
    if WORKLOADS[name].evicts:
        assert room < len(prompts) * SIZES.longest_tokens
    else:
        assert len(distinct) <= room
