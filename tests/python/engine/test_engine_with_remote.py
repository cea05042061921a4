# SPDX-License-Identifier: Apache-2.0
"""`LMCacheEngine` with a remote tier: engines that have no memory in common share a Redis."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from redis_server import connected, free_port, until

from lmcache import LMCacheEngine, _native
from lmcache.errors import LMCacheError
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
CHUNK, TOKENS = 256, list(range(1000))
PASSWORD = "open-sesame"
DOCUMENT = Path(__file__).parents[3] / "docs" / "remote.md"


def kv(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((2, 2, 1000, 2, 32)).astype(np.float32)


def open_engine(url: str, **settings: Any) -> LMCacheEngine:
    config = {
        "max_local_cpu_size": 0.05,
        "segment": "private",
        "remote_url": url,
        "load_policy": "always",
        # Also on a machine that is busy with something else.
        "remote_lookup_timeout_ms": 5000,
        **settings,
    }
    return LMCacheEngine(config, model="m", geometry=GEOMETRY)


def open_connected(url: str, **settings: Any) -> LMCacheEngine:
    engine = open_engine(url, **settings)
    until(lambda: connected(engine))
    return engine


def fill(url: str, **settings: Any) -> None:
    """Store in an engine that is gone afterwards."""
    with open_connected(url, **settings) as cache:
        assert cache.store(TOKENS, kv()) == 1000
        cache.flush()
        assert cache._native.stats()["remote_written_chunks"] == 4


@pytest.mark.parametrize("serde", ["msgpack", "naive"])
def test_another_engine_gets_every_byte(redis_server: Any, serde: str) -> None:
    fill(redis_server.url, remote_serde=serde)
    out = np.zeros_like(kv())
    with open_connected(redis_server.url, remote_serde=serde) as cache:
        assert cache.retrieve(TOKENS, out) == 1000
        np.testing.assert_array_equal(out, kv())
        counts = cache._native.stats()
        assert (counts["remote_read_chunks"], counts["remote_hit_tokens"]) == (4, 1000)
        assert counts["remote_corrupt_chunks"] == counts["remote_read_errors"] == 0
        # It is in memory now.
        assert cache.retrieve(TOKENS, out) == 1000
        assert cache._native.stats()["remote_read_chunks"] == 4


def test_both_at_once_and_a_chunk_goes_only_once(redis_server: Any) -> None:
    with open_connected(redis_server.url) as one, open_connected(redis_server.url) as other:
        assert one.store(TOKENS, kv()) == other.store(TOKENS, kv()) == 1000
        one.flush()
        other.flush()
        first, second = one._native.stats(), other._native.stats()
    assert len(redis_server.chunks()) == 4
    for counts in (first, second):
        assert counts["remote_written_chunks"] + counts["remote_known_chunks"] == 4


def test_memory_as_a_mere_station(redis_server: Any) -> None:
    fill(redis_server.url, local_cpu=False)
    out = np.zeros_like(kv())
    with open_connected(redis_server.url, local_cpu=False) as cache:
        assert cache.retrieve(TOKENS, out) == 1000
    np.testing.assert_array_equal(out, kv())


def test_other_kv_is_not_found(redis_server: Any) -> None:
    fill(redis_server.url)
    out = np.zeros_like(kv())
    with open_connected(redis_server.url) as cache:
        assert cache.retrieve([7, *TOKENS[1:]], out) == 0
        assert not out.any()
        assert cache.retrieve([*TOKENS[:CHUNK], *range(5000, 5300)], out) == CHUNK
    with open_connected(redis_server.url, chunk_size=128) as cache:
        assert cache.retrieve(TOKENS, out) == 0


def test_what_is_stored_can_be_read_by_others(redis_server: Any) -> None:
    fill(redis_server.url)
    keys = redis_server.chunks()
    assert len(keys) == 4
    payloads = set()
    for key in keys:
        digits = key.removeprefix(b"lmcache:1:")
        assert len(bytes.fromhex(digits.decode())) == 32
        value = msgpack.unpackb(redis_server.client().get(key))
        assert list(value) == ["lmcache", "codec", "geometry", "length", "checksum", "data"]
        assert (value["lmcache"], value["codec"]) == (1, 0)
        assert value["length"] == len(value["data"])
        assert (len(value["geometry"]), bytes(value["geometry"]) != bytes(32)) == (32, True)
        assert value["checksum"] < 2**64
        payloads.add(value["data"])
    # The first chunk of layer 0's K, as it lies in the array.
    assert any(kv()[0, 0, :CHUNK].tobytes() in payload for payload in payloads)


def test_a_naive_value_is_a_header_and_the_record(redis_server: Any) -> None:
    fill(redis_server.url, remote_serde="naive")
    for key in redis_server.chunks():
        value = redis_server.client().get(key)
        assert value[:8] == b"RLmChunk"
        assert int.from_bytes(value[16:24], "little") == len(value) - 64


def test_a_value_that_was_damaged_is_a_miss(redis_server: Any) -> None:
    fill(redis_server.url)
    for key in redis_server.chunks():
        redis_server.client().setrange(key, 3000, b"?" * 8)
    out = np.zeros_like(kv())
    with open_connected(redis_server.url) as cache:
        assert cache.retrieve(TOKENS, out) == 0
        assert cache._native.stats()["remote_corrupt_chunks"] >= 1


def test_ttl_is_the_key_s_expiry(redis_server: Any) -> None:
    fill(redis_server.url, ttl=3600)
    left = [redis_server.client().ttl(key) for key in redis_server.chunks()]
    assert len(left) == 4
    assert all(3000 < seconds <= 3600 for seconds in left)
    redis_server.client().flushall()
    fill(redis_server.url)
    assert {redis_server.client().ttl(key) for key in redis_server.chunks()} == {-1}


def test_database_and_socket(redis_server: Any) -> None:
    fill(f"{redis_server.url}/3")
    assert (redis_server.chunks(), len(redis_server.chunks(3))) == ([], 4)
    with open_connected(f"unix://{redis_server.socket_path}?db=3") as cache:
        assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000


def test_a_server_that_keeps_nothing(start_redis: Any) -> None:
    server = start_redis(options=("--maxmemory", "2mb", "--maxmemory-policy", "noeviction"))
    with open_connected(server.url, max_local_cpu_size=0.1) as cache:
        for seed in range(6):
            assert cache.store([seed, *TOKENS[1:]], kv(seed)) == 1000
        cache.flush()
        counts = cache._native.stats()
        assert counts["remote_dropped_writes"] > 0
        assert counts["remote_write_errors"] == 0
        assert connected(cache)
        out = np.zeros_like(kv())
        assert cache.retrieve([5, *TOKENS[1:]], out) == 1000
    np.testing.assert_array_equal(out, kv(5))


def test_password_from_the_environment(
    start_redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis(password=PASSWORD)
    monkeypatch.setenv("LMCACHE_REMOTE_PASSWORD", PASSWORD)
    with caplog.at_level(logging.DEBUG):
        fill(server.url)
        with open_connected(server.url) as cache:
            assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
            assert PASSWORD not in repr(cache.config) + str(cache.stats())
    assert len(server.chunks()) == 4
    assert PASSWORD not in caplog.text


def test_a_user_who_may_do_only_what_docs_remote_md_says(start_redis: Any) -> None:
    server = start_redis()
    text = DOCUMENT.read_text(encoding="utf-8")
    rules = re.findall(r"`(~lmcache:1:\S* \+[^`]*)`", " ".join(text.split()))[0].split()
    server.client().execute_command("ACL", "SETUSER", "cache", "on", f">{PASSWORD}", *rules)
    server.client().execute_command("ACL", "SETUSER", "default", "off")
    settings = {"remote_user": "cache", "remote_password": PASSWORD}
    fill(f"{server.url}/1", ttl=100, **settings)
    with open_connected(f"{server.url}/1", **settings) as cache:
        assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
    store = _native.RemoteStore.open(
        f"{server.url}/1", lambda *_: None, user="cache", password=PASSWORD
    )
    with pytest.raises(LMCacheError, match="NOPERM"):
        store.stat()


@pytest.mark.parametrize("inside_url", [True, False])
def test_a_wrong_password_is_told_and_not_shown(
    start_redis: Any, caplog: pytest.LogCaptureFixture, inside_url: bool
) -> None:
    server = start_redis(password=PASSWORD)
    wrong = "close-sesame"
    settings = {} if inside_url else {"remote_password": wrong}
    url = server.url.replace("://", f"://:{wrong}@") if inside_url else server.url
    with caplog.at_level(logging.DEBUG), open_engine(url, **settings) as cache:
        until(lambda: "going on without it" in caplog.text)
        assert cache.store(TOKENS, kv()) == 1000
        assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
    assert server.chunks() == []
    assert f"remote cache {server.url}" in caplog.text
    assert wrong not in caplog.text


def test_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    out = np.zeros_like(kv())
    port = free_port()
    with (
        caplog.at_level(logging.DEBUG),
        open_engine(f"redis://127.0.0.1:{port}") as cache,
    ):
        assert cache.retrieve(TOKENS, out) == 0
        assert cache.store(TOKENS, kv()) == 1000
        cache.flush()
        assert cache.retrieve(TOKENS, out) == 1000
        # It tries again and again, and says so once.
        until(lambda: cache._native.status()["processes"][0]["remote_failures"] >= 2)
        counts = cache._native.stats()
        assert counts["remote_dropped_writes"] == 4
        assert counts["remote_lookups"] == 0
    np.testing.assert_array_equal(out, kv())
    told = [line for line in caplog.messages if "remote cache" in line]
    assert len(told) == 1
    assert f"redis://127.0.0.1:{port}" in told[0]
    assert "going on without it until it answers" in told[0]


def test_a_server_that_comes_back(redis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), open_connected(redis_server.url) as cache:
        redis_server.stop()
        assert cache.store(TOKENS, kv()) == 1000
        cache.flush()
        until(lambda: not connected(cache))
        assert cache.retrieve([3, *TOKENS[1:]], np.zeros_like(kv())) == 0
        redis_server.start()
        until(lambda: connected(cache))
        assert cache.store([9, *TOKENS[1:]], kv(9)) == 1000
        cache.flush()
        # What could not be sent before, too.
        until(lambda: len(redis_server.chunks()) == 8)
    lines = [line for line in caplog.messages if "remote cache" in line]
    assert [line.rpartition(": ")[2] for line in lines if line.endswith("connected")] == [
        "connected",
        "connected",
    ]
    assert sum("going on without it" in line for line in lines) == 1


def test_clear_leaves_the_store_of_others_alone(redis_server: Any) -> None:
    with open_connected(redis_server.url) as cache:
        cache.store(TOKENS, kv())
        cache.flush()
        assert cache.clear() == 4
        assert len(redis_server.chunks()) == 4
        assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
