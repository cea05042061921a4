# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote clear` removes chunks and nothing else."""

from __future__ import annotations

import io
from typing import Any

import pytest
from remote_chunks import write_chunks


def test_only_chunks_go(run: Any, redis_server: Any) -> None:
    write_chunks(redis_server.url, 2500)
    client = redis_server.client()
    for name in ("of somebody else", "lmcache:2:of another version", "lmcache", "xlmcache:1:"):
        client.set(name, "1")
    done = run("remote", "clear", "--url", redis_server.url, "--yes")
    assert done.status == 0, done.err
    assert done.out == f"removed 2500 chunks from {redis_server.url}\n"
    assert (redis_server.chunks(), client.dbsize()) == ([], 4)
    done = run("remote", "clear", "--url", redis_server.url, "-y")
    assert (done.status, done.out[:16]) == (0, "removed 0 chunks")


def test_another_database_stays(run: Any, redis_server: Any) -> None:
    write_chunks(redis_server.url, 5)
    write_chunks(f"{redis_server.url}/1", 5)
    assert run("remote", "clear", "--url", f"{redis_server.url}/1", "--yes").status == 0
    assert (len(redis_server.chunks()), redis_server.chunks(1)) == (5, [])


def test_it_asks_first(run: Any, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chunks(redis_server.url, 10)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = run("remote", "clear", "--url", redis_server.url)
    assert (done.status, "say --yes" in done.err) == (2, True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, left in (("n\n", 10), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        done = run("remote", "clear", "--url", redis_server.url)
        assert f"Remove 10 chunks from {redis_server.url}?" in done.out
        assert len(redis_server.chunks()) == left
