# SPDX-License-Identifier: Apache-2.0
"""What `lmcache status` says after each kind of trouble with a real remote store."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from kv_arrays import empty_kv, kv_of
from redis_server import RedisServer, connected, until

from lmcache import LMCacheEngine

PROMPT = range(100)
CHUNKS = 7
SETTINGS = {
    "max_local_cpu_size": 0.03,
    "chunk_size": 16,
    "load_policy": "always",
    "remote_lookup_timeout_ms": 500,
    "blocking_timeout_secs": 2,
}


def nothing(_server: RedisServer) -> None:
    pass


def fill_up(server: RedisServer) -> None:
    server.client().config_set("maxmemory", "1")


def fill_up_and_evict(server: RedisServer) -> None:
    server.client().config_set("maxmemory-policy", "allkeys-lru")
    server.client().config_set("maxmemory", "2mb")


def forbid_writing(server: RedisServer) -> None:
    server.client().execute_command("ACL", "SETUSER", "default", "-set")


def make_it_a_replica(server: RedisServer) -> None:
    server.client().execute_command("REPLICAOF", "127.0.0.1", "1")


def damage(server: RedisServer) -> None:
    for key in server.chunks():
        server.client().setrange(key, 1000, b"??????")


def forbid_reading(server: RedisServer) -> None:
    server.client().execute_command("ACL", "SETUSER", "default", "-get", "-getrange")


def flush(server: RedisServer) -> None:
    server.client().flushall()


def kill(server: RedisServer) -> None:
    server.stop()


def hang(server: RedisServer) -> None:
    server.process.send_signal(signal.SIGSTOP)


# What happens, before the store or the read; what is counted then and how much of it at least; what
# is said of it; whether the server still counts as one.
WRITING: list[tuple[Callable[[RedisServer], None], str, str, bool]] = [
    (nothing, "written", "sent", True),
    (fill_up, "dropped_writes", "not sent", True),
    (fill_up_and_evict, "written", "sent", True),
    (forbid_writing, "write_errors", "7 chunks could not be sent", True),
    (make_it_a_replica, "failures", "times the store did not answer", False),
    (kill, "failures", "times the store did not answer", False),
    (hang, "failures", "times the store did not answer", False),
]
READING: list[tuple[Callable[[RedisServer], None], str, str, bool]] = [
    (nothing, "read", "fetched", True),
    (damage, "corrupt_chunks", "chunks were not what was asked for: computed", True),
    (forbid_reading, "read_errors", "7 chunks could not be fetched", True),
    (kill, "failures", "times the store did not answer", False),
    (hang, "failures", "times the store did not answer", False),
]


@pytest.fixture
def engine(redis_server: Any, segment: str) -> Any:
    settings = {**SETTINGS, "segment": segment, "remote_url": redis_server.url}
    with LMCacheEngine(settings, model="m") as opened:
        until(lambda: connected(opened))
        yield opened


def check(run: Any, segment: str, counted: str, told: str, usable: bool) -> None:
    def report() -> dict[str, Any]:
        return dict(json.loads(run("status", "--segment", segment, "--json").out)["remote"])

    def amount() -> int:
        value = report()[counted]
        return int(value["chunks"] if isinstance(value, dict) else value)

    until(lambda: amount() >= 1)
    out = " ".join(run("status", "--segment", segment).out.split())
    assert told in out
    # A replica answers, so it is tried again and again.
    if usable:
        until(lambda: report()["connected"] == 1)
        assert report()["failures"] == 0
    for name in ("dropped_writes", "write_errors", "read_errors", "corrupt_chunks"):
        if usable and name != counted:
            assert report()[name] == 0, name


@pytest.mark.parametrize(("happens", "counted", "told", "usable"), WRITING)
def test_after_storing(
    run: Any, engine: Any, redis_server: Any, segment: str, happens: Any, counted: str, told: str,
    usable: bool,
) -> None:  # fmt: skip
    happens(redis_server)
    assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)
    engine.flush()
    check(run, segment, counted, told, usable)


@pytest.mark.parametrize(("happens", "counted", "told", "usable"), READING)
def test_after_reading(
    run: Any, engine: Any, redis_server: Any, segment: str, happens: Any, counted: str, told: str,
    usable: bool,
) -> None:  # fmt: skip
    engine.store(PROMPT, kv_of(PROMPT))
    engine.flush()
    engine.clear()
    happens(redis_server)
    found = engine.retrieve(PROMPT, empty_kv(len(PROMPT)))
    assert found == (len(PROMPT) if counted == "read" else 0)
    check(run, segment, counted, told, usable)


def test_of_a_server_that_lets_nobody_in(run: Any, start_redis: Any, segment: str) -> None:
    server = start_redis(password="right")
    settings = {
        **SETTINGS,
        "segment": segment,
        "remote_url": server.url,
        "remote_password": "wrong",
    }
    with LMCacheEngine(settings, model="m"):
        check(run, segment, "failures", "0 of 1 process(es) connected", False)


def test_a_server_that_was_emptied_and_one_that_comes_back(
    run: Any, engine: Any, redis_server: Any, segment: str
) -> None:
    engine.store(PROMPT, kv_of(PROMPT))
    engine.flush()
    flush(redis_server)
    engine.clear()
    assert engine.retrieve(PROMPT, empty_kv(len(PROMPT))) == 0
    out = " ".join(run("status", "--segment", segment).out.split())
    assert "1 of 1 process(es) connected" in out
    assert "failures" not in out
    kill(redis_server)
    until(lambda: not engine.retrieve(PROMPT, empty_kv(len(PROMPT))) and not connected(engine))
    assert "0 of 1 process(es) connected" in run("status", "--segment", segment).out
    redis_server.start()
    until(lambda: connected(engine))
    until(lambda: "1 of 1 process(es) connected" in run("status", "--segment", segment).out)
