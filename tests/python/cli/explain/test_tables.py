# SPDX-License-Identifier: Apache-2.0
"""Explanations as people see them."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from lmcache.cli.explain.prompts import PromptIn
from lmcache.cli.explain.reasons import Reason
from lmcache.cli.explain.requests import Explained, summary
from lmcache.cli.explain.spaces import Space
from lmcache.cli.explain.tables import render_latest, render_prompt, render_request

SPACE = Space(3, 1, b"", 1, 16, "m", 0, {"geometry": {"dtype": "bfloat16"}, "chunk_tokens": 16})
TRACE = {
    "request_id": "cmpl-[1]",
    "unix_s": 0,
    "pid": 4711,
    "prompt_tokens": 100,
    "limit_tokens": 99,
    "computed_tokens": 16,
    "memory_tokens": 20,
    "loaded_tokens": 32,
    "wait_us": 4000,
    "preemptions": 2,
}


def text(renderable: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=200).print(renderable)
    return file.getvalue()


def test_a_request() -> None:
    shown = text(render_request([Explained(TRACE, SPACE, Reason("evicted", "[gone]", "more"))]))
    assert "cmpl-[1]" in shown
    assert "after 2 preemption(s)" in shown
    assert "3: m (bfloat16, chunks of 16 tokens)" in shown
    assert "100 tokens: 16 vLLM had itself, 32 came from the cache, 52 were computed" in shown
    assert "4 ms for a lower tier: 20 tokens were in memory before" in shown
    assert "[gone] (evicted)" in shown
    assert "what helps  more" in shown


def test_the_latest() -> None:
    explained = [Explained(TRACE, SPACE, Reason("evicted", "gone"))]
    shown = text(render_latest(explained, summary(explained)))
    assert "evicted gone" in shown
    assert "38.6 % of 83 tokens" in shown
    assert "evicted to make room" in shown
    good = [Explained(TRACE | {"loaded_tokens": 83}, SPACE, Reason("whole", "all"))]
    shown = text(render_latest(good, summary(good)))
    assert "tokens lost" not in shown
    assert "all" not in shown.splitlines()[1].split()


def test_a_prompt_alone_has_no_second_table() -> None:
    asked = PromptIn(SPACE, 40, 10, Reason("differs", "it differs"), [])
    assert "other namespace" not in text(render_prompt([asked]))
    other = PromptIn(SPACE, 40, 40, Reason("whole", ""), [{"member": "x", "here": 1, "there": 2}])
    shown = text(render_prompt([asked, other]))
    assert "10 of 40 tokens (25.0 %)" in shown
    assert "x (1 here, 2 there)" in shown
