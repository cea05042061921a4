# SPDX-License-Identifier: Apache-2.0
"""What requests came to together, and which reasons need the other requests."""

from __future__ import annotations

from typing import Any

import pytest
from traced_engine import CHUNK, TracedEngine

from lmcache import _native
from lmcache.cli.explain.reasons import Reason
from lmcache.cli.explain.requests import Explained, RequestHistory, summary

PROMPT = list(range(100, 100 + 5 * CHUNK))


def explained(code: str, **tokens: int) -> Explained:
    trace = {"limit_tokens": 100, "computed_tokens": 0, "loaded_tokens": 0} | tokens
    return Explained(trace, None, Reason(code, ""))


def test_reasons_are_ordered_by_what_they_cost() -> None:
    together = summary(
        [
            explained("new", computed_tokens=90),
            explained("new", computed_tokens=90),
            explained("evicted", loaded_tokens=40),
            explained("whole", loaded_tokens=100),
        ]
    )
    assert together["requests"] == 4
    assert together["asked_tokens"] == 220
    assert together["loaded_tokens"] == 140
    assert together["hit_rate"] == pytest.approx(140 / 220)
    assert together["reasons"] == [
        {"code": "evicted", "requests": 1, "lost_tokens": 60},
        {"code": "new", "requests": 2, "lost_tokens": 20},
        {"code": "whole", "requests": 1, "lost_tokens": 0},
    ]
    assert summary([])["hit_rate"] == 0.0


def history(engine: TracedEngine) -> RequestHistory:
    return RequestHistory(engine.path, _native.inspect_segment(engine.path))


def test_what_is_stored_elsewhere_is_found_without_a_request(segment: Any) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("a", PROMPT, salt="one")
        for number in range(8191):  # all that is remembered
            engine.native.trace_request(f"x{number}", "off", None, None, (0,) * 7)
        engine.serve("b", PROMPT, salt="two", store=False)
        seen = history(engine)
        (found,) = seen.latest(1)
        assert not seen.named("a")
        assert len(seen) == 8191
    assert found.reason.code == "other_namespace"
    assert found.reason.text.startswith("a stored prompt begins with the same tokens")


def test_a_request_outlives_its_process_and_has_its_namespace(segment: Any) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("a", PROMPT)
    seen = history(engine)
    (found,) = seen.named("a")
    assert found.space is not None
    assert found.space is seen.latest_space()
    assert found.as_dict()["made_of"]["chunk_tokens"] == CHUNK
