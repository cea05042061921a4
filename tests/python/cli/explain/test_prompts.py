# SPDX-License-Identifier: Apache-2.0
"""A prompt against a segment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from traced_engine import CHUNK, TracedEngine

from lmcache import _native
from lmcache.cli.explain.prompts import PromptIn, explain_tokens, read_tokens, tokenize
from lmcache.cli.explain.spaces import spaces_of
from lmcache.errors import InvalidArgumentError

PROMPT = list(range(100, 100 + 5 * CHUNK))


def explain(engine: TracedEngine, tokens: list[int]) -> PromptIn:
    spaces = list(spaces_of(_native.inspect_segment(engine.path)).values())
    return explain_tokens(engine.path, tokens, spaces, spaces[0], 1 << 20)[0]


def test_how_far_it_is_there(segment: Any) -> None:
    with TracedEngine(segment) as engine:
        engine.space()
        assert "nothing of this namespace is stored" in explain(engine, PROMPT).reason.text
        engine.serve("a", PROMPT)
        whole = explain(engine, PROMPT)
        assert (whole.found_tokens, whole.reason.code) == (len(PROMPT), "whole")
        assert explain(engine, PROMPT[:7]).found_tokens == 7
        longer = explain(engine, [*PROMPT, 1, 2])
        assert (longer.found_tokens, longer.reason.code) == (len(PROMPT), "new")
        parted = explain(engine, [*PROMPT[:20], 1, 2])
        assert (parted.found_tokens, parted.reason.code) == (20, "differs")
        assert "the 1 stored" in parted.reason.text
        other = explain(engine, [1, 2, 3])
        assert (other.found_tokens, other.reason.code) == (0, "new")
        assert "none of the 1 stored prompts begins like it" in other.reason.text
        engine.native.clear()
        assert explain(engine, PROMPT).reason.code == "cleared"


def test_tokens_are_read(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text(json.dumps([1, 2]))
    assert read_tokens(str(file)) == [1, 2]
    file.write_text("[true]")
    with pytest.raises(InvalidArgumentError, match="list of token ids"):
        read_tokens(str(file))


def test_a_text_needs_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "text"
    file.write_text("hello")
    with pytest.raises(InvalidArgumentError, match="--tokenizer"):
        tokenize(str(file), str(tmp_path / "none"))
