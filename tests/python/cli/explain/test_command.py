# SPDX-License-Identifier: Apache-2.0
"""`lmcache explain`: a request, the latest ones, a prompt."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from traced_engine import CHUNK, TracedEngine

PROMPT = list(range(100, 100 + 5 * CHUNK))


def reason(run: Any, segment: str, request_id: str) -> dict[str, str]:
    """Return the reason that programs are given for one request."""
    done = run("explain", request_id, "--segment", segment, "--json")
    assert done.status == 0, done.err
    (request,) = json.loads(done.out)["requests"]
    return dict(request["reason"])


def test_each_request_has_its_reason(run: Any, segment: str) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("first", PROMPT)
        engine.serve("again", PROMPT)
        engine.serve("parts", [*PROMPT[: CHUNK + 5], 1, 2, 3, *range(500, 520)])
        engine.serve("salted", PROMPT, salt="tenant", store=False)
        engine.serve("elsewhere", PROMPT, model="other", store=False)
        engine.serve("bare", [7, 8], outcome="skipped", note="must not", store=False)
        engine.native.clear()
        engine.serve("cleared", PROMPT, store=False)
    assert reason(run, segment, "first")["code"] == "new"
    assert reason(run, segment, "again")["code"] == "whole"
    parts = reason(run, segment, "parts")
    assert parts["code"] == "differs"
    assert f"from token {CHUNK + 5} on, in chunk 1 (tokens 16 to 31)" in parts["text"]
    salted = reason(run, segment, "salted")
    assert salted["code"] == "other_namespace"
    assert "cache salt (" in salted["text"]
    assert "here, none there)" in salted["text"]
    assert "tenant" not in salted["text"]
    assert "model (other here, m there)" in reason(run, segment, "elsewhere")["text"]
    assert reason(run, segment, "bare")["code"] == "skipped"
    assert reason(run, segment, "cleared")["code"] == "cleared"


def test_an_evicted_prompt(run: Any, segment: str) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("first", PROMPT)
        for seed in range(1, 80):  # 4,740 chunks: more than there is room for
            engine.serve(f"filler-{seed}", range(1000 * seed, 1000 * seed + 60 * CHUNK))
        engine.serve("probe", PROMPT, store=False)
    assert reason(run, segment, "probe")["code"] == "evicted"
    done = run("explain", "probe", "--segment", segment)
    assert "had been evicted" in done.out
    assert "max_local_cpu_size" in done.out


def test_requests_at_once_do_not_share(run: Any, segment: str) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("one", PROMPT, store=False)
        engine.serve("two", PROMPT, store=False)
    found = reason(run, segment, "two")
    assert found["code"] == "not_stored"
    assert "request one, 0 s before, began with the same tokens" in found["text"]


def test_the_latest(run: Any, segment: str) -> None:
    with TracedEngine(segment) as engine:
        for number in range(5):
            engine.serve(f"r{number}", PROMPT)
        done = run("explain", "--last", "3", "--segment", segment)
        assert done.status == 0, done.err
        assert "r1" not in done.out
        lines = done.out.splitlines()
        assert [line.split()[0] for line in lines[1:4]] == ["r2", "r3", "r4"]
        assert "100.0 % of 237 tokens" in done.out
    report = json.loads(run("explain", "--segment", segment, "--json").out)
    assert report["exists"] is True
    assert [one["request_id"] for one in report["requests"]] == ["r4", "r3", "r2", "r1", "r0"]
    assert report["summary"]["requests"] == 5
    assert report["summary"]["hit_rate"] == pytest.approx(0.8)
    assert report["summary"]["reasons"][0] == {
        "code": "new",
        "requests": 1,
        "lost_tokens": len(PROMPT) - 1,
    }


def test_the_name_that_a_client_knows(run: Any, segment: str) -> None:
    with TracedEngine(segment) as engine:
        engine.serve("cmpl-1-0-89abcdef", PROMPT)
        engine.serve("cmpl-12-0-89abcdef", PROMPT)
    done = run("explain", "cmpl-1", "--segment", segment)
    assert "cmpl-1-0-89abcdef" in done.out
    assert "cmpl-12" not in done.out


def test_a_prompt_in_every_namespace(run: Any, segment: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(json.dumps([*PROMPT[:40], 1, 2, 3]))
    with TracedEngine(segment) as engine:
        engine.serve("salted", PROMPT, salt="tenant")
        engine.serve("plain", PROMPT[:20])
        done = run("explain", "--tokens", str(file), "--segment", segment)
        assert done.status == 0, done.err
        assert "20 of 43 tokens" in done.out
        assert "cache salt (none here" in done.out
        report = json.loads(
            run("explain", "--tokens", str(file), "--segment", segment, "--json").out
        )
        asked, other = report["prompt"]["namespaces"]
        assert (asked["found_tokens"], other["found_tokens"]) == (20, 40)
        assert asked["differs_in"] == []
        assert [difference["member"] for difference in other["differs_in"]] == ["salt_sha256"]
        assert other["reason"]["code"] == "differs"
        assert "from token 40 on, in chunk 2" in other["reason"]["text"]
        number = str(other["namespace_id"])
        swapped = run(
            "explain", "--tokens", str(file), "--namespace", number, "--segment", segment, "--json"
        )
        first = json.loads(swapped.out)["prompt"]["namespaces"][0]
    assert first["namespace_id"] == other["namespace_id"]


def test_tokens_from_standard_input(
    run: Any, segment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(PROMPT)))
    with TracedEngine(segment) as engine:
        engine.serve("r", PROMPT)
    done = run("explain", "--tokens", "-", "--segment", segment)
    assert "all of it is in memory" in done.out


def test_nothing_to_tell(run: Any, segment: str) -> None:
    done = run("explain", "--segment", segment)
    assert done.status == 1
    assert "There is no segment" in done.out
    assert json.loads(run("explain", "--segment", segment, "--json").out)["exists"] is False
    with TracedEngine(segment):
        done = run("explain", "--segment", segment)
        assert (done.status, "knows of no request yet" in done.out) == (0, True)
        done = run("explain", "nobody", "--segment", segment)
        assert done.status == 1
        assert "No request nobody" in done.out
        done = run("explain", "nobody", "--segment", segment, "--json")
        assert (done.status, json.loads(done.out)["requests"]) == (1, [])


def test_mistakes(run: Any, segment: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    with TracedEngine(segment) as engine:
        file.write_text("[1]")
        done = run("explain", "--tokens", str(file), "--segment", segment)
        assert (done.status, "no namespace" in done.err) == (2, True)
        engine.serve("r", PROMPT)
        for text, told in (("{", "no JSON"), ('["a"]', "list of token ids"), ("[]", "is empty")):
            file.write_text(text)
            done = run("explain", "--tokens", str(file), "--segment", segment)
            assert (done.status, told in done.err) == (2, True)
        done = run("explain", "r", "--tokens", str(file), "--segment", segment)
        assert (done.status, "say one of" in done.err) == (2, True)
        done = run("explain", "--tokens", str(file), "--namespace", "9", "--segment", segment)
        assert (done.status, "--namespace 9" in done.err) == (2, True)
