# SPDX-License-Identifier: Apache-2.0
"""How much of a prompt a segment holds now, in each of its namespaces."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcache import _native
from lmcache.cli.explain.reasons import CODES, Reason, chunk_name, reason_of, removal_reason
from lmcache.cli.explain.spaces import Space, differences
from lmcache.errors import InvalidArgumentError, UnavailableError

_PLACES = {"writing": "writing", "coming": "coming", "unknown": "busy"}


@dataclass(frozen=True)
class PromptIn:
    """A prompt in one namespace."""

    space: Space
    tokens: int
    found_tokens: int
    reason: Reason
    differs_in: list[dict[str, Any]]  # from the namespace that was asked

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "namespace_id": self.space.id,
            "model": self.space.model,
            "made_of": dict(self.space.made_of),
            "found_tokens": self.found_tokens,
            "reason": self.reason.as_dict(),
            "differs_in": self.differs_in,
        }


def explain_tokens(
    path: str, tokens: Sequence[int], spaces: Sequence[Space], asked: Space, capacity_bytes: int
) -> list[PromptIn]:
    """Look a prompt up in every namespace: first the one that is asked, then those with most."""
    found = [_look(path, tokens, space, asked, capacity_bytes) for space in spaces]
    return sorted(found, key=lambda one: (one.space is not asked, -one.found_tokens))


def read_tokens(file: str) -> list[int]:
    """Read a JSON list of token ids. Raises `InvalidArgumentError`."""
    try:
        tokens = json.loads(_read(file))
    except ValueError as error:
        raise InvalidArgumentError(f"--tokens {file}: no JSON: {error}") from None
    if not isinstance(tokens, list) or not all(
        isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in tokens
    ):
        raise InvalidArgumentError(f"--tokens {file}: must be a JSON list of token ids")
    if not tokens:
        raise InvalidArgumentError(f"--tokens {file}: the list is empty")
    return tokens


def tokenize(file: str, tokenizer: str) -> list[int]:
    """Read a text and turn it into tokens as a completion request does (no chat template)."""
    text = _read(file)
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UnavailableError("--prompt needs the package transformers: or use --tokens") from None
    try:
        encode = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise InvalidArgumentError(f"no tokenizer {tokenizer}, say --tokenizer: {first}") from None
    tokens = [int(token) for token in encode(text)["input_ids"]]
    if not tokens:
        raise InvalidArgumentError(f"--prompt {file}: no tokens in it")
    return tokens


def _read(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")


def _look(
    path: str, tokens: Sequence[int], space: Space, asked: Space, capacity_bytes: int
) -> PromptIn:
    prompt = _native.Prompt(space.root, space.chunk_tokens)
    prompt.append(tokens)
    there = _native.explain_prompt(path, space.id, space.world_size, prompt)
    return PromptIn(
        space=space,
        tokens=len(tokens),
        found_tokens=there["found_tokens"],
        reason=_reason(there, len(tokens), space, capacity_bytes),
        differs_in=[] if space is asked else differences(asked, space),
    )


def _reason(there: dict[str, Any], tokens: int, space: Space, capacity_bytes: int) -> Reason:
    found, place = there["found_tokens"], there["missing_place"]
    if found >= tokens or place == "none":
        return reason_of("whole", "all of it is in memory")
    where = chunk_name(found, space.chunk_tokens)
    if place in _PLACES:
        return reason_of(_PLACES[place], f"{where}: {CODES[_PLACES[place]]}")
    removed = removal_reason(there, where, time.time(), capacity_bytes)
    if removed is not None:
        return removed
    if not found:
        first = f"none of the {there['continuations']} stored prompts begins like it"
        nothing = "nothing of this namespace is stored"
        return reason_of("new", first if there["continuations"] else nothing)
    if there["continuations"]:
        return reason_of(
            "differs",
            f"from token {found} on, in {where}, it differs from the {there['continuations']} "
            "stored prompts that are equal up to that chunk",
        )
    return reason_of("new", f"nothing is stored that goes on after token {found}", " ")
