# SPDX-License-Identifier: Apache-2.0
"""Made-up streams of requests for the differential test: what is asked, when, and what happens
meanwhile.

All of it follows from a seed. Prompts grow out of each other (extended, cut, one token edited, one
glued to another), so they share prefixes of every length; half of them end at or beside a block.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

GREEDY = "greedy"
SEVERAL = "several"  # more than one answer, each the most likely one
DRAWN = "drawn"  # one or more answers, each drawn with a seed
DIGITS = "digits"  # structured output
KINDS = (GREEDY, SEVERAL, DRAWN, DIGITS)

VOCABULARY = range(3, 2000)
BLOCK = 32
SHORTEST, LONGEST = 2, 320  # tokens of a prompt
ANSWER = 28  # tokens, at most

# What may happen to all requests at once.
FORGET = "vLLM forgets its prefix cache, if nothing runs"
PREEMPT = "vLLM takes the blocks of all running requests and forgets its prefix cache"
EMPTY = "vLLM and the cache forget everything"


@dataclass(frozen=True)
class Question:
    """All that an answer follows from."""

    prompt: tuple[int, ...]
    max_tokens: int
    kind: str = GREEDY
    answers: int = 1
    seed: int = 0  # of what is drawn
    adapter: str = ""


@dataclass(frozen=True)
class Ask:
    """A question that arrives at a step of the engine; it may be given up some steps later."""

    name: str
    step: int
    question: Question
    salt: str = ""
    abort_after: int | None = None


@dataclass(frozen=True)
class Stream:
    """Requests in the order in which they arrive."""

    seed: str
    asks: tuple[Ask, ...]
    events: dict[int, str] = field(default_factory=dict)  # by step


def make_questions(
    seed: str, count: int, kinds: Sequence[str] = KINDS, adapters: Sequence[str] = ("",)
) -> list[Question]:
    """Return questions whose prompts share prefixes; no two are the same."""
    source = random.Random(f"questions {seed}")
    texts = [_tokens(source, source.randrange(2 * BLOCK, 6 * BLOCK)) for _ in range(3)]
    found: dict[Question, None] = {}
    while len(found) < count:
        text = _grown(source, texts)
        texts.append(text)
        found[_question(source, text, kinds, adapters)] = None
        if source.random() < 0.3:  # the same prompt in another way
            found[_question(source, text, kinds, adapters)] = None
    return list(found)[:count]


def follow_ups(
    seed: str, count: int, answered: Sequence[tuple[Question, Sequence[int]]]
) -> list[Question]:
    """Return the next turns of conversations: a question with its answer, or a part of it, and more
    tokens.
    """
    source = random.Random(f"follow-ups {seed}")
    found: dict[Question, None] = {}
    for question, answer in source.sample(list(answered), len(answered)):
        said = answer[: source.choice((len(answer), len(answer), len(answer) // 2))]
        text = [*question.prompt, *said, *_tokens(source, source.randrange(1, 50))]
        if len(found) < count and len(text) <= LONGEST:
            found[_question(source, text, (GREEDY,), (question.adapter,))] = None
    return list(found)


def make_stream(
    seed: str, questions: Sequence[Question], count: int, events: Sequence[str] = (FORGET, PREEMPT)
) -> Stream:
    """Return a stream of so many requests: bursts and pauses, some questions again and again."""
    source = random.Random(f"stream {seed}")
    asks: list[Ask] = []
    step = 0
    popular = source.sample(list(questions), min(6, len(questions)))
    for index in range(count):
        step += source.choice((0, 0, 0, 1, 2, 5, 13))
        asks.append(
            Ask(
                f"{seed}/{index}",
                step,
                source.choice(popular if source.random() < 0.4 else list(questions)),
                salt=source.choice(("", "", "", "", "a", "b")),
                abort_after=source.randrange(24) if source.random() < 0.2 else None,
            )
        )
    happening = {source.randrange(1, step + 20): source.choice(events) for _ in range(count // 10)}
    return Stream(seed, tuple(asks), happening if events else {})


def _tokens(source: random.Random, count: int) -> list[int]:
    return [source.choice(VOCABULARY) for _ in range(count)]


def _grown(source: random.Random, texts: Sequence[list[int]]) -> list[int]:
    """Return a text made of others."""
    text = list(source.choice(texts))
    how = source.random()
    if how < 0.15:
        text = _tokens(source, source.randrange(SHORTEST, 4 * BLOCK))
    elif how < 0.45:
        text += _tokens(source, source.randrange(1, 3 * BLOCK))
    elif how < 0.6:
        text = text[: source.randrange(SHORTEST, len(text) + 1)]
    elif how < 0.8:
        text[source.randrange(len(text))] = source.choice(VOCABULARY)
    else:
        text = text[: source.randrange(1, len(text) + 1)] + list(source.choice(texts))
    if source.random() < 0.5:  # the end of a block, or one beside it
        text = text[: max(SHORTEST, len(text) // BLOCK * BLOCK + source.choice((-1, 0, 1)))]
    return text[:LONGEST]


def _question(
    source: random.Random, text: list[int], kinds: Sequence[str], adapters: Sequence[str]
) -> Question:
    kind = source.choice((GREEDY, *kinds))
    return Question(
        tuple(text),
        max_tokens=source.choice((1, 2, 5, 12, ANSWER)),
        kind=kind,
        answers={SEVERAL: 2, DRAWN: source.choice((1, 2, 3))}.get(kind, 1),
        seed=source.randrange(1000) if kind == DRAWN else 0,
        adapter=source.choice(adapters),
    )
