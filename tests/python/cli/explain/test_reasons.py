# SPDX-License-Identifier: Apache-2.0
"""The reason for each combination that a trace can show."""

from __future__ import annotations

from typing import Any

import pytest

from lmcache import _native
from lmcache.cli.explain.reasons import CODES, Reason, chunk_name, request_reason

PLAIN = {
    "outcome": "looked_up",
    "note": "a note",
    "unix_s": 1000,
    "limit_tokens": 99,
    "computed_tokens": 0,
    "found_tokens": 0,
    "wait_us": 0,
    "missing_place": "absent",
    "removal": "",
    "removed_unix_s": 0,
    "whole_chunks_only": False,
}


def reason(**fields: Any) -> Reason:
    return request_reason(PLAIN | fields, 16, 4 << 20, lambda: Reason("new", "nothing"))


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("whole", {"found_tokens": 99, "missing_place": "none"}),
        ("whole", {"found_tokens": 200}),
        ("engine_had_it", {"computed_tokens": 99}),
        ("new", {}),
        ("differs", {"found_tokens": 17}),
        ("evicted", {"removal": "evicted", "removed_unix_s": 990}),
        ("evicted", {"removal": "evicted_to_disk", "removed_unix_s": 990}),
        ("expired", {"removal": "expired", "removed_unix_s": 990}),
        ("cleared", {"removal": "cleared", "removed_unix_s": 990}),
        ("writing", {"missing_place": "writing", "removal": "evicted"}),
        ("coming", {"missing_place": "coming"}),
        ("too_late", {"missing_place": "ready"}),
        ("busy", {"missing_place": "unknown"}),
        ("too_slow", {"missing_place": "disk"}),
        ("too_slow", {"missing_place": "remote"}),
        ("gave_up", {"missing_place": "remote", "wait_us": 5000}),
        ("too_short", {"whole_chunks_only": True, "limit_tokens": 9}),
        ("too_few", {"outcome": "too_few", "found_tokens": 3}),
        *((name, {"outcome": name}) for name in ("off", "skipped", "paused", "not_ready")),
        *((name, {"outcome": name}) for name in ("not_cacheable", "load_failed")),
    ],
)
def test_codes(code: str, fields: dict[str, Any]) -> None:
    found = reason(**fields)
    assert found.code == code
    assert found.code in CODES
    assert found.text


def test_every_outcome_of_the_native_library_is_understood() -> None:
    for outcome in _native.request_outcomes():
        assert reason(outcome=outcome).code in CODES


def test_times_are_those_of_the_request() -> None:
    text = reason(removal="evicted", removed_unix_s=958, found_tokens=32).text
    assert text == "chunk 2 (tokens 32 to 47) had been evicted 42 s before to make room"
    assert "the disk had it" in reason(removal="evicted_to_disk", removed_unix_s=958).text


def test_the_advice_names_the_size() -> None:
    assert "4.2 MB" in reason(removal="evicted", removed_unix_s=958).advice


def test_a_namespace_that_is_gone() -> None:
    assert chunk_name(40, 0) == "what follows token 40"
