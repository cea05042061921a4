# SPDX-License-Identifier: Apache-2.0
"""Which store a command is about, and how it gets in."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from redis_server import free_port

from lmcache.cli.store import open_store, store_login, store_url
from lmcache.errors import LMCacheError, UnavailableError

PASSWORD = "open-sesame"


@pytest.fixture(autouse=True)
def _no_settings(run: Any) -> None:
    """The fixture `run` takes all settings out of the environment."""


def test_an_address_or_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_REMOTE_URL", "redis://configured:1/2")
    assert store_url(None) == "redis://configured:1/2"
    assert store_url("valkey://given") == "valkey://given"


def test_no_address(run: Any) -> None:
    with pytest.raises(UnavailableError, match="remote_url is not set"):
        store_url(None)
    for command in ("ping", "stat", "bench", "clear"):
        done = run("remote", command)
        assert (done.status, done.out) == (2, "")
        assert done.err == (
            "error: no remote store is configured (remote_url is not set): say --url\n"
        )


@pytest.mark.parametrize("scheme", ["lm", "LM"])
def test_stores_without_a_client(run: Any, scheme: str) -> None:
    done = run("remote", "ping", "--url", f"{scheme}://:secret@host/x")
    assert done.status == 2
    why = "this kind of remote store is not in this version"
    assert done.err == f"error: {scheme.lower()}://: {why}\n"


@pytest.mark.parametrize("url", ["redis://me:secret@host/x", "secret", "a secret://x"])
def test_no_such_address(run: Any, url: str) -> None:
    done = run("remote", "ping", "--url", url)
    assert done.status == 2
    assert re.match("error: (Redis|remote) URL: ", done.err)
    assert "secret" not in done.err


def test_an_unknown_scheme_names_all_that_are_known(run: Any) -> None:
    done = run("remote", "ping", "--url", "foo://me:secret@host")
    assert done.status == 2
    assert done.err.startswith("error: remote URL: unknown scheme 'foo'; allowed are redis://, ")
    for scheme in ("s3", "az", "gs", "file", "mooncakestore", "redis-cluster", "unix"):
        assert f" {scheme}://" in done.err
    assert " lm://" not in done.err
    assert "secret" not in done.err


def test_a_server_without_tls(run: Any, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_BLOCKING_TIMEOUT_SECS", "0.3")
    done = run("remote", "ping", "--url", redis_server.url.replace("redis", "rediss"))
    assert done.status == 2
    assert "rediss:// means TLS: does the server speak it at that port?" in done.err


def test_login(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_login() == ("", "")
    monkeypatch.setenv("LMCACHE_REMOTE_USER", "me")
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", PASSWORD)
    assert store_login() == ("me", PASSWORD)


def test_a_password_of_the_environment_or_the_url(
    start_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis(password=PASSWORD)
    with pytest.raises(LMCacheError, match="NOAUTH"):
        open_store(server.url)
    inside = server.url.replace("://", f"://:{PASSWORD}@")
    assert open_store(inside).stat()["url"] == server.url
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", PASSWORD)
    store = open_store(server.url, connections=2)
    assert store.ping() > 0
    # That of the URL goes first.
    with pytest.raises(LMCacheError, match="WRONGPASS") as caught:
        open_store(server.url.replace("://", "://:another@"))
    assert "another" not in str(caught.value)


def test_nothing_listens(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", PASSWORD)
    port = free_port()
    done = run("remote", "ping", "--url", f"redis://127.0.0.1:{port}")
    assert done.status == 2
    assert f"127.0.0.1:{port}" in done.err
    assert "\n" not in done.err.rstrip("\n")
    assert PASSWORD not in done.err


def test_a_folder(run: Any, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    done = run("remote", "ping", "--url", url)
    assert done.status == 0, done.err
    assert f"{url} answers" in done.out
    done = run("remote", "stat", "--url", url)
    assert "0 chunks" in done.out
    options = ("--size", "4MB", "--chunk", "1", "--rounds", "1")
    done = run("bench", "remote", "--url", url, *options)
    assert done.status == 0, done.err
    assert "GB/s" in done.out
    assert "redis-py" not in done.out
    assert "loopback" not in done.out
    assert run("remote", "clear", "--yes", "--url", url).status == 0
    assert run("remote", "ping", "--url", "file://host/x").err.startswith("error: a folder is file")


def test_a_missing_library(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "lmcache.remote.object_store", raising=False)
    done = run("remote", "ping", "--url", "s3://me:secret@bucket")
    assert done.status == 2
    assert done.err.startswith("error: s3:// needs a library that is not there (")
    assert 'pip install "lmcache[object-store]"' in done.err
    assert "secret" not in done.err
