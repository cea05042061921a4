# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote ping`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


def test_it_answers(run: Any, redis_server: Any) -> None:
    done = run("remote", "ping", "--url", redis_server.url)
    assert done.status == 0, done.err
    pattern = rf"{re.escape(redis_server.url)} answers: \d+ us, \d+ us at best\n"
    assert re.fullmatch(pattern, done.out)


def test_json(run: Any, redis_server: Any) -> None:
    done = run("remote", "ping", "--url", redis_server.url, "--count", "3", "--json")
    report = json.loads(done.out)
    assert (report["url"], report["count"]) == (redis_server.url, 3)
    assert 0 < report["min_us"] <= report["p50_us"]
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(report) - documented == set()


def test_it_asks_for_nothing_else(run: Any, redis_server: Any) -> None:
    rules = ("on", ">p", "~lmcache:1:*", "+ping", "+select")
    redis_server.client().execute_command("ACL", "SETUSER", "cache", *rules)
    done = run("remote", "ping", "--url", redis_server.url.replace("://", "://cache:p@"))
    assert done.status == 0, done.err


def test_of_the_settings_and_without_the_password(
    run: Any, start_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(password="open-sesame")
    monkeypatch.setenv("LMCACHE_REMOTE_URL", server.url.replace("://", "://:open-sesame@"))
    done = run("remote", "ping")
    assert done.status == 0, done.err
    assert done.out.startswith(f"{server.url} answers: ")
    done = run("config", "show")
    assert "***@127.0.0.1" in done.out
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", "open-sesame")
    for arguments in (("config", "show"), ("config", "show", "--json"), ("-v", "remote", "ping")):
        done = run(*arguments)
        assert done.status == 0
        assert "sesame" not in done.out + done.err


def test_it_does_not_answer(run: Any, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_BLOCKING_TIMEOUT_SECS", "0.2")
    redis_server.client().config_set("maxclients", 1)
    one = redis_server.client()
    one.ping()
    done = run("remote", "ping", "--url", redis_server.url)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
