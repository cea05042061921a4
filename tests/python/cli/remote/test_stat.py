# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote stat`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from remote_chunks import write_chunks

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


def test_what_is_there(run: Any, redis_server: Any) -> None:
    write_chunks(redis_server.url, 12)
    redis_server.client().set("of somebody else", "1")
    redis_server.client().config_set("maxmemory", "500mb")
    done = run("remote", "stat", "--url", redis_server.url, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["url"] == redis_server.url
    assert report["server"].startswith(("redis ", "valkey "))
    assert (report["role"], report["chunks"]) == ("master", 12)
    assert 120_000 < report["used_bytes"] < report["limit_bytes"] == 500 << 20
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(report) - documented == set()
    out = run("remote", "stat", "--url", redis_server.url).out
    assert f"{redis_server.url}: {report['server']}, master" in out
    assert re.search(r"12 chunks; memory [\d.]+ MB of 524\.3 MB", out)


def test_parts_that_nobody_can_find(run: Any, redis_server: Any) -> None:
    client = redis_server.client()
    for part in (1, 2):
        client.set(f"lmcache:1:{'ab' * 32}:{part}", "x")
    done = run("remote", "stat", "--url", redis_server.url)
    assert "2 parts of large chunks whose first part is not there" in done.out
    done = run("remote", "clear", "--yes", "--url", redis_server.url)
    assert "removed 0 chunks" in done.out
    assert client.keys() == []
    assert "parts" not in run("remote", "stat", "--url", redis_server.url).out


def test_an_empty_one_without_a_limit(run: Any, redis_server: Any) -> None:
    write_chunks(redis_server.url, 3)
    out = run("remote", "stat", "--url", f"{redis_server.url}/5").out
    assert "0 chunks; memory" in out
    assert "no limit" in out
