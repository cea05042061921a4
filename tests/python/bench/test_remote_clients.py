# SPDX-License-Identifier: Apache-2.0
"""Other clients of the same store."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from redis_server import free_port

from lmcache.bench import remote_clients
from lmcache.bench.remote_clients import RedisPy, server_alone
from lmcache.errors import LMCacheError

PASSWORD = "open-sesame"
SLOT = 1000


def move(client: RedisPy, chunks: int = 5) -> dict[str, float]:
    before = os.urandom(chunks * SLOT)
    memory = memoryview(bytearray(before))
    times = client.move([os.urandom(32) for _ in range(chunks)], memory, SLOT)
    assert memory == before
    return times


def test_redis_py_moves_the_bytes_and_removes_them(redis_server: Any) -> None:
    valkey = redis_server.url.replace("redis", "valkey")
    for url in (redis_server.url, f"{valkey}/2", f"unix://{redis_server.socket_path}?db=1"):
        client = RedisPy.connect(url)
        assert client is not None
        times = move(client)
        assert set(times) == {"redispy_set", "redispy_get"}
        assert min(times.values()) > 0
        client.close()
    assert redis_server.client().info("keyspace") == {}


def test_what_the_server_spends_is_the_servers(redis_server: Any) -> None:
    client = RedisPy.connect(redis_server.url)
    assert client is not None
    before = client.server_cpu_s()
    move(client)
    after = client.server_cpu_s()
    client.close()
    assert before is not None
    assert after is not None
    assert 0 < after - before < 60


def test_a_server_that_does_not_tell_its_cpu_time() -> None:
    class Silent:
        def info(self, section: str) -> dict[str, float]:
            assert section == "cpu"
            return {"used_cpu_user_children": 1.0}

    assert RedisPy(Silent(), ValueError).server_cpu_s() is None


def test_it_logs_in_as_we_do(start_redis: Any) -> None:
    server = start_redis(password=PASSWORD)
    inside = server.url.replace("://", f"://:{PASSWORD}@")
    for client in (RedisPy.connect(inside), RedisPy.connect(server.url, password=PASSWORD)):
        assert client is not None
        move(client)
        client.close()
    assert RedisPy.connect(server.url) is None
    assert RedisPy.connect(server.url, password="x") is None


def test_what_it_does_not_understand(redis_server: Any) -> None:
    assert RedisPy.connect(f"redis://127.0.0.1:{free_port()}") is None
    secure = redis_server.url.replace("redis", "rediss")
    assert RedisPy.connect(f"{secure}?ca=/nowhere&verify=no") is None


def test_a_value_that_the_server_does_not_take(start_redis: Any) -> None:
    server = start_redis(options=("--proto-max-bulk-len", "1mb"))
    client = RedisPy.connect(server.url)
    assert client is not None
    memory = memoryview(bytearray(4 << 20))
    assert client.move([os.urandom(32) for _ in range(2)], memory, 2 << 20) == {}
    move(client)
    assert server.client().keys() == []


def test_redis_benchmark_is_spared_large_chunks(redis_server: Any) -> None:
    found = server_alone(redis_server.url, 65 << 20)
    assert found == {"benchmark_set_gbps": None, "benchmark_get_gbps": None}


def test_a_store_that_is_full(start_redis: Any) -> None:
    server = start_redis(options=("--maxmemory", "1500kb", "--maxmemory-policy", "noeviction"))
    client = RedisPy.connect(server.url)
    assert client is not None
    with pytest.raises(LMCacheError, match=r"redis-py: .*maxmemory"):
        move(client, 5000)
    assert server.client().keys() == []


def test_redis_benchmark_leaves_nothing(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("redis-benchmark") is None:
        pytest.skip("redis-benchmark is not installed")
    monkeypatch.setattr(remote_clients, "_BENCHMARK_BYTES", 1 << 20)
    for place in ("/4", "?db=4"):
        found = server_alone(redis_server.url + place, 10_000)
        assert all(rate and rate > 0 for rate in found.values())
    assert redis_server.client().info("keyspace") == {}


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://:sesame@127.0.0.1", ""),
        ("redis://127.0.0.1", "sesame"),
        ("rediss://127.0.0.1", ""),
        ("unix:///tmp/x", ""),
    ],
)
def test_where_redis_benchmark_does_not_run(
    url: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_clients, "_output", None)  # would fail if it were called
    nothing = {"benchmark_set_gbps": None, "benchmark_get_gbps": None}
    assert server_alone(url, 1000, password) == nothing


def test_without_redis_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_alone("redis://127.0.0.1", 1000)["benchmark_get_gbps"] is None


def test_what_redis_benchmark_says() -> None:
    told = '"test","rps","avg_latency_ms"\n"SET","33333.33","0.061"\n'
    assert remote_clients._rate(told, "SET") == 33333.33
    assert remote_clients._rate(told, "GET") is None
    assert remote_clients._rate("NOAUTH Authentication required.\n", "SET") is None
