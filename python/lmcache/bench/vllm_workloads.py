# SPDX-License-Identifier: Apache-2.0
"""The workloads of `lmcache bench vllm --workload`: who asks what, and what of it is measured.

A workload is a generator of `Ask`s, each answered with the tokens of its requests, so that a
conversation can go on with what the model said. What is asked to fill the cache is not measured.

    multi-round   conversations of ShareGPT: each prompt holds all that was said before, by the
                  model too. The first question comes with a long history and is not measured.
    rag           questions over four documents out of six, the documents that are asked for
                  together in the same order. One question over each four before.
    long-doc      questions about one long document. One question before.
    batch         four questions about one document at once. One question before, alone.
    no-reuse      documents that have nothing in common: all is stored, nothing is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from lmcache.bench.vllm_conversations import (
    MOST_QUESTION_TOKENS,
    Encode,
    choose_dialogues,
    open_conversations,
)
from lmcache.bench.vllm_documents import document, question, sentence

ROUNDS = 3  # measured questions of a conversation
TOGETHER = 4  # requests of a batch
_LISTS = ((0, 1, 2, 3), (0, 1, 2, 4), (0, 1, 4, 5))  # the documents that belong to a question
_SYSTEM = "<|im_start|>system\nAnswer by what the documents say, in one sentence.<|im_end|>\n"
_BEGIN_USER, _BEGIN_MODEL = "<|im_start|>user\n", "<|im_start|>assistant\n"
_END = "<|im_end|>\n"
_FIRST_TOKENS = range(300, 2000)
# Of a prompt, beside the context: roles, a question, titles.
_ROOM_TOKENS = 256


@dataclass(frozen=True)
class Ask:
    """Prompts that are submitted at once, as token ids."""

    prompts: list[list[int]]
    measured: bool = True


@dataclass(frozen=True)
class Sizes:
    """How much. A workload whose requests come in groups rounds `requests` up."""

    context_tokens: int  # of the history, the document, all documents of a question
    requests: int  # measured
    answer_tokens: int
    seed: int
    conversations: Path | None = None  # None: those of the package

    @property
    def longest_tokens(self) -> int:
        """The longest prompt that can come about, with its answer."""
        rounds = (ROUNDS + 1) * (MOST_QUESTION_TOKENS + 16 + self.answer_tokens)
        return self.context_tokens * 3 // 2 + rounds + _ROOM_TOKENS


Play = Generator[Ask, list[list[int]], None]


@dataclass(frozen=True)
class Workload:
    """`contexts` says how many different contexts are cached, at most."""

    play: Callable[[Sizes, Encode], Play]
    context_tokens: int  # unless told otherwise
    requests: int
    contexts: Callable[[Sizes], int]
    # The segment holds no more contexts than that, as one of a cache in use: later stores evict.
    evicts: bool = False

    def stored_tokens(self, sizes: Sizes) -> int:
        """Return for how many tokens the segment is made: all that are cached, unless it evicts."""
        if self.evicts:
            return self.contexts(sizes) * (sizes.context_tokens + sizes.answer_tokens)
        questions = sizes.requests * (512 + sizes.answer_tokens)
        return (self.contexts(sizes) + 2) * sizes.longest_tokens + questions


def _groups(requests: int, size: int) -> int:
    return -(-requests // size)


def _multi_round(sizes: Sizes, encode: Encode) -> Play:
    with open_conversations(sizes.conversations) as source:
        dialogues = choose_dialogues(
            source,
            encode,
            history_tokens=sizes.context_tokens,
            questions=ROUNDS + 1,
            count=_groups(sizes.requests, ROUNDS),
            seed=sizes.seed,
        )
    for dialogue in dialogues:
        said = "".join(
            f"{_BEGIN_USER}{asked}{_END}{_BEGIN_MODEL}{answer}{_END}"
            for asked, answer in dialogue.history
        )
        texts = [f"{_BEGIN_USER}{asked}{_END}{_BEGIN_MODEL}" for asked in dialogue.questions]
        first, *others = encode([said + texts[0], *(_END + text for text in texts[1:])])
        prompt = first
        [answer] = yield Ask([prompt], measured=False)
        for ids in others:
            prompt = prompt + answer + ids
            [answer] = yield Ask([prompt])


def _rag(sizes: Sizes, encode: Encode) -> Play:
    draw = random.Random(sizes.seed)
    count = 1 + max(max(documents) for documents in _LISTS)
    each = sizes.context_tokens // len(_LISTS[0])
    texts = [_document(draw, encode, f"Document {i + 1}", each) for i in range(count)]
    [system] = encode([_SYSTEM + _BEGIN_USER])
    contexts = [system + [i for number in numbers for i in texts[number]] for numbers in _LISTS]
    for context in contexts:
        yield Ask([context + _question(draw, encode)], measured=False)
    for number in range(sizes.requests):
        yield Ask([contexts[number % len(contexts)] + _question(draw, encode)])


def _long_doc(sizes: Sizes, encode: Encode) -> Play:
    draw = random.Random(sizes.seed)
    context = _about_one(draw, encode, sizes.context_tokens)
    for number in range(sizes.requests + 1):
        yield Ask([context + _question(draw, encode)], measured=number > 0)


def _batch(sizes: Sizes, encode: Encode) -> Play:
    draw = random.Random(sizes.seed)
    for _ in range(_groups(sizes.requests, TOGETHER)):
        context = _about_one(draw, encode, sizes.context_tokens)
        yield Ask([context + _question(draw, encode)], measured=False)
        yield Ask([context + _question(draw, encode) for _ in range(TOGETHER)])


def _no_reuse(sizes: Sizes, encode: Encode) -> Play:
    draw = random.Random(sizes.seed)
    # A first token of its own each, so that not even one is in common.
    for first in draw.sample(_FIRST_TOKENS, sizes.requests):
        # All as long as each other: a median over different lengths would be less sure.
        tokens = sizes.context_tokens - 1
        yield Ask([[first, *_document(draw, encode, sentence(draw), tokens, spread=0.0)]])


def _about_one(draw: random.Random, encode: Encode, tokens: int) -> list[int]:
    [system] = encode([_SYSTEM + _BEGIN_USER])
    return system + _document(draw, encode, sentence(draw), tokens)


def _question(draw: random.Random, encode: Encode) -> list[int]:
    [ids] = encode([f"\nQuestion {draw.randrange(1000)}: {question(draw)}{_END}{_BEGIN_MODEL}"])
    return ids


def _document(
    draw: random.Random, encode: Encode, title: str, tokens: int, spread: float = 0.1
) -> list[int]:
    """Return a document of about so many tokens: where it ends in a chunk is chance."""
    tokens = round(tokens * draw.uniform(1 - spread, 1 + spread))
    ids: list[int] = []
    while len(ids) < tokens:
        ids += encode([document(draw, title, tokens // 16 + 1)])[0]
    return ids[:tokens]


WORKLOADS = {
    "multi-round": Workload(_multi_round, 2000, 18, lambda sizes: _groups(sizes.requests, ROUNDS)),
    "rag": Workload(_rag, 2000, 12, lambda _: len(_LISTS)),
    "long-doc": Workload(_long_doc, 4500, 6, lambda _: 1),
    "batch": Workload(_batch, 2000, 16, lambda sizes: _groups(sizes.requests, TOGETHER)),
    # So many, since the differences are smaller than what a host takes now and then.
    "no-reuse": Workload(
        _no_reuse, 1024, 60, lambda sizes: max(2, min(10, sizes.requests // 2)), evicts=True
    ),
}
