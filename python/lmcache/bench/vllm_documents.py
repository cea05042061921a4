# SPDX-License-Identifier: Apache-2.0
"""Documents that nobody wrote, and questions about them, the same for the same random numbers."""

from __future__ import annotations

import random

_SUBJECTS = (
    "The lighthouse of {}",
    "The railway to {}",
    "The library of {}",
    "The harbour at {}",
    "The museum in {}",
    "The bridge near {}",
    "The school of {}",
    "The mill above {}",
)
_PLACES = ("Tenby", "Marrow", "Ostby", "Lindale", "Quarn", "Feldspar", "Halvik", "Umber", "Corrin")
_VERBS = ("was built", "was repaired", "was sold", "burnt down", "was painted", "was closed")
_PEOPLE = ("the engineer", "a merchant", "the town", "a widow", "two brothers", "the keeper")
_NAMES = ("Morrow", "Adler", "Ivens", "Sato", "Brandt", "Okoye", "Lund", "Perez", "Novak")
_REASONS = (
    "because the old one had become too small",
    "although nobody had asked for it",
    "after a winter of heavy storms",
    "with money that came from the sale of wool",
    "as the council had decided",
    "so that ships could be seen from far away",
)
_QUESTIONS = (
    "Who paid for it, and in which year?",
    "Why was it done?",
    "Which place is named first?",
    "What happened to the {} in {}?",
    "How many people are named, and who are they?",
    "Summarise what is said about {} in one sentence.",
    "Which of these events came last?",
)


def sentence(draw: random.Random) -> str:
    """Return a sentence; two are hardly ever the same."""
    subject = draw.choice(_SUBJECTS).format(draw.choice(_PLACES))
    return (
        f"{subject} {draw.choice(_VERBS)} in {draw.randrange(1400, 2020)} by "
        f"{draw.choice(_PEOPLE)} {draw.choice(_NAMES)} {draw.choice(_REASONS)}, at a cost of "
        f"{draw.randrange(100, 99999)} crowns."
    )


def document(draw: random.Random, title: str, sentences: int) -> str:
    """Return a text of so many sentences under a title."""
    return f"{title}\n\n" + " ".join(sentence(draw) for _ in range(sentences)) + "\n"


def question(draw: random.Random) -> str:
    """Return a question about a document, of 10 to 20 tokens."""
    names = draw.choice(_PEOPLE).removeprefix("the ").removeprefix("a "), draw.choice(_PLACES)
    text = draw.choice(_QUESTIONS)
    return text.format(*names[2 - text.count("{}") :])
