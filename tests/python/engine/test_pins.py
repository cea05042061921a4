# SPDX-License-Identifier: Apache-2.0
"""Pins go by the very tokens, and end where they should."""

from __future__ import annotations

from typing import Any

from kv_arrays import kv_of

from lmcache.engine.pins import prompt_key

PROMPT = list(range(40))


def test_the_key_of_a_prompt_tells_all_prompts_apart(make_engine: Any) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    prompts = [PROMPT[:count] for count in (1, 15, 16, 17, 32, 40)] + [[1], [*PROMPT[:31], 9]]
    keys = {prompt_key(engine._prompt(tokens)) for tokens in prompts}
    assert len(keys) == len(prompts)


def test_closing_gives_all_back(make_engine: Any) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    for count in (40, 40, 16):
        engine.pin(PROMPT[:count])
    assert engine._native.status()["leased"] == 3
    engine._pins.release_all()
    assert engine._native.status()["leased"] == 0
    assert engine.unpin(PROMPT) == 0


def test_nothing_found_is_nothing_pinned(make_engine: Any) -> None:
    engine = make_engine()
    assert engine.pin(PROMPT) == 0
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.pin([7, 7]) == 0
    assert engine.unpin([7, 7]) == 0
