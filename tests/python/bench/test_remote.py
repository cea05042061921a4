# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a remote store moves what it says, and leaves nothing behind."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from folder_store import FolderStore

from lmcache import _native
from lmcache.bench import remote
from lmcache.bench.remote import RemoteBench, moved_bytes
from lmcache.errors import LMCacheError
from lmcache.remote.service import RemoteService

MIB = 1 << 20
SIZE = 4 * MIB


def bench_of(url: str, **options: Any) -> RemoteBench:
    def open_store(connections: int, overwrites: bool) -> _native.RemoteStore:
        return _native.RemoteStore.open(
            url, lambda *_: None, connections=connections, overwrites=overwrites
        )

    return RemoteBench(url, open_store, SIZE, (MIB // 4,), connections=2, rounds=2, **options)


@pytest.mark.multiprocess
def test_figures(redis_server: Any) -> None:
    redis_server.client().set("of somebody else", "1")
    told: list[str] = []
    found = bench_of(redis_server.url).run(told.append)
    assert (found["url"], found["connections"]) == (redis_server.url, 2)
    assert found["server"].startswith(("redis ", "valkey "))
    (line,) = found["figures"]
    assert line["chunk_bytes"] == MIB // 4
    assert line["moved_bytes"] == 15 * (MIB // 4 + 256)
    for name in remote._MOVES:
        assert line[f"{name}_gbps"] > 0
    for ratio in ("set_ratio", "get_ratio", "get_over_redispy"):
        assert 0.001 < line[ratio] < 1000
    for move in ("set", "get"):
        # One thread; the calls that ask for its CPU time are outside of what was timed.
        assert 0 < line[f"{move}_server_busy"] < 3
        assert line[f"{move}_ratio_limit"] > line[f"{move}_ratio"] / 4
    slower = 1 / (1 + line["raw_send_gbps"] / line["sum_gbps"])  # each value is summed first
    assert line["set_ratio_limit"] < 4 * slower
    assert line["exists_us_per_key"] > 0
    assert {"benchmark_set_gbps", "benchmark_get_gbps"} <= set(line)
    assert told[-1].endswith("round 2 of 2")
    assert redis_server.client().keys() == [b"of somebody else"]


@pytest.mark.multiprocess
def test_nothing_stays_when_chunks_do_not_arrive(start_redis: Any) -> None:
    server = start_redis(options=("--maxmemory", "3mb", "--maxmemory-policy", "noeviction"))
    with pytest.raises(LMCacheError, match="did not arrive"):
        bench_of(server.url).run()
    assert server.client().keys() == []


@pytest.mark.multiprocess
def test_no_parts_of_large_chunks_stay(start_redis: Any) -> None:
    server = start_redis(options=("--maxmemory", "60mb", "--maxmemory-policy", "noeviction"))
    bench = replace(bench_of(server.url), payload_bytes=(40 * MIB,), size_bytes=80 * MIB)
    with pytest.raises(LMCacheError, match="did not arrive"):
        bench.run()
    assert server.client().keys() == []


@pytest.mark.multiprocess
def test_no_parts_stay_of_what_came_too_late(redis_server: Any) -> None:
    def open_store(connections: int, overwrites: bool) -> _native.RemoteStore:
        return _native.RemoteStore.open(
            redis_server.url,
            lambda *_: None,
            connections=connections,
            overwrites=overwrites,
            transfer_timeout_ms=30,
        )

    size = 300 * MIB
    bench = RemoteBench(redis_server.url, open_store, size, (size,), connections=2, rounds=1)
    with pytest.raises(LMCacheError, match="did not arrive"):
        bench.run()
    assert redis_server.client().info("stats")["total_net_input_bytes"] > MIB
    assert redis_server.client().keys() == []


def test_how_much_is_moved_and_what_memory_that_takes() -> None:
    bench = RemoteBench("", lambda *_: None, 256 * MIB, (MIB, 900 * MIB))  # type: ignore[arg-type,return-value]
    assert bench.moved_bytes == 900 * MIB + 256
    assert moved_bytes(10 * MIB, MIB) == 9 * (MIB + 256)
    assert 3.5 < bench.memory_bytes / (900 * MIB) < 4.5
    assert replace(bench, loopback=False).memory_bytes == bench.moved_bytes


def test_a_ratio_is_that_within_a_round() -> None:
    def costs(raw: float, own: float) -> dict[str, float]:
        return {"raw_send": raw, "set": own, "raw_recv": raw, "get": own}

    figures = remote._figures([costs(1, 2), costs(10, 20), costs(100, 100)], 2.0)
    assert figures["set_ratio"] == statistics.median([0.5, 0.5, 1.0])
    assert figures["raw_send_gbps"] == 0.2
    # redis-py was not there.
    assert figures["redispy_get_gbps"] is None
    assert figures["get_over_redispy"] is None


def test_a_password_is_not_in_its_repr() -> None:
    bench = bench_of("redis://:sesame@host", password="sesame")
    assert "sesame" not in repr(bench)


def test_a_store_with_a_client_in_python_is_measured_alone(tmp_path: Path) -> None:
    services: list[RemoteService] = []

    def open_store(connections: int, overwrites: bool) -> _native.RemoteStore:
        remote = FolderStore(tmp_path)
        service = RemoteService("folder", remote, threads=connections + 2, log=lambda *_: None)
        service.start()
        services.append(service)
        return _native.RemoteStore.open(
            "", lambda *_: None, connections=connections, overwrites=overwrites, calls=service.calls
        )

    attached: list[memoryview] = []
    found = RemoteBench(
        "file:///x",
        open_store,
        SIZE,
        (MIB // 4,),
        connections=2,
        rounds=1,
        loopback=False,
        attach=attached.append,
    ).run()
    (line,) = found["figures"]
    assert min(line["set_gbps"], line["get_gbps"], line["fresh_set_gbps"]) > 0
    for name in ("raw_send_gbps", "set_ratio", "get_ratio", "redispy_get_gbps", "get_over_redispy"):
        assert line[name] is None
    assert len(attached) == 1
    assert list(tmp_path.iterdir()) == []
    for service in services:
        service.close()


def test_the_limit_is_the_ratio_of_a_client_that_costs_nothing() -> None:
    costs = dict.fromkeys(remote._MOVES, 1.0) | {"raw_send": 3.0, "set": 8.0, "set_server": 4.0}
    found = remote._figures([costs], 1.0)
    assert (found["set_ratio"], found["set_server_busy"]) == (0.375, 0.5)
    assert found["set_ratio_limit"] == 0.75
    assert found["get_ratio_limit"] is None  # no server told
