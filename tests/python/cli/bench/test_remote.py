# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench remote`, which is `lmcache remote bench` too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lmcache.cli.bench.remote import _rate, _verdict

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"
SMALL = ("--size", "4MB", "--chunk", "1,0.25", "--rounds", "1", "--connections", "2")


@pytest.mark.multiprocess
@pytest.mark.parametrize("command", [("bench", "remote"), ("remote", "bench")])
def test_it_measures(run: Any, redis_server: Any, command: tuple[str, ...]) -> None:
    done = run(*command, "--url", redis_server.url, *SMALL, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert [line["chunk_bytes"] for line in report["figures"]] == [1 << 20, 1 << 18]
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert (set(report) | set(report["figures"][0])) - documented == set()
    assert redis_server.client().keys() == []


@pytest.mark.multiprocess
def test_the_table_and_a_password(
    run: Any, start_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(password="open-sesame")
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", "open-sesame")
    done = run("remote", "bench", "--url", server.url, *SMALL)
    assert done.status == 0, done.err
    assert f"{server.url}: " in done.out
    assert re.search(r"0\.25 MiB +[\d.]+ GB/s", done.out)
    assert "sesame" not in done.out + done.err
    assert server.client().keys() == []


@pytest.mark.multiprocess
def test_a_user_who_may_do_only_what_docs_remote_md_says(run: Any, redis_server: Any) -> None:
    text = " ".join((DOCUMENT.parent / "remote.md").read_text(encoding="utf-8").split())
    (always, more) = re.findall(r"`(~lmcache:1:\S* \+[^`]*)`, and `(\+[^`]*)`", text)[0]
    rules = ("on", ">p", *always.split(), *more.split())
    redis_server.client().execute_command("ACL", "SETUSER", "cache", *rules)
    url = redis_server.url.replace("://", "://cache:p@")
    # One of several parts, too.
    large = ("--size", "14MB", "--chunk", "12,1", "--rounds", "1")
    done = run("remote", "bench", "--url", url, *large, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["figures"][0]["redispy_get_gbps"] > 0
    assert run("remote", "stat", "--url", url).status == 0
    assert run("remote", "clear", "--url", url, "--yes").status == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--size", "much"), "--size = much: is no size"),
        (("--chunk", "4,x"), "--chunk = 4,x: must be MiB as plain numbers"),
        (("--size", "100TB"), "GB of memory are needed, beside what the store takes, "),
        (("--connections", "65"), "equal to 64"),
        (("--rounds", "0"), "equal to 1"),
    ],
)
def test_mistakes(run: Any, redis_server: Any, arguments: tuple[str, ...], line: str) -> None:
    done = run("bench", "remote", "--url", redis_server.url, *arguments)
    assert done.status == 2
    assert line in done.err


def test_what_was_not_measured() -> None:
    assert (_rate(None), _verdict(None, 1.0)) == ("-", "-")
    assert _rate(1.234) == "1.23 GB/s"
    assert _verdict(1.0, 1.0) == "[green]1.00[/]"
    assert _verdict(0.99, 1.0) == "[bold red]0.99[/]"
