# SPDX-License-Identifier: Apache-2.0
"""Engines with a remote store of the user's own, which works, fails, sleeps or is in the way."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_store import FolderStore
from redis_server import connected, until

from lmcache import LMCacheEngine, _native
from lmcache.errors import IoError, LMCacheError
from lmcache.remote.service import RemoteService, failure_text
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
TOKENS = list(range(1000))


def kv(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((2, 2, 1000, 2, 32)).astype(np.float32)


def open_engine(store: FolderStore, **settings: Any) -> LMCacheEngine:
    config = {
        "max_local_cpu_size": 0.05,
        "segment": "private",
        "load_policy": "always",
        "remote_lookup_timeout_ms": 5000,
        **settings,
    }
    return LMCacheEngine(config, model="m", geometry=GEOMETRY, remote=store)


def open_connected(store: FolderStore, **settings: Any) -> LMCacheEngine:
    engine = open_engine(store, **settings)
    until(lambda: connected(engine))
    return engine


def fill(folder: Path, **settings: Any) -> FolderStore:
    store = FolderStore(folder)
    with open_connected(store, **settings) as cache:
        assert cache.store(TOKENS, kv()) == 1000
        cache.flush()
        assert cache._native.stats()["remote_written_chunks"] == 4
    return store


def threads_of_ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lmc-store")]


def test_another_engine_gets_every_byte(tmp_path: Path) -> None:
    first = fill(tmp_path, ttl=60)
    assert (first.closed, first.memory, first.ttls) == (1, [], {60})
    assert all(len(path.name) == 64 for path in tmp_path.iterdir())
    out = np.zeros_like(kv())
    with open_connected(FolderStore(tmp_path)) as cache:
        assert cache.retrieve(TOKENS, out) == 1000
        counts = cache._native.stats()
        assert (counts["remote_read_chunks"], counts["remote_corrupt_chunks"]) == (4, 0)
    np.testing.assert_array_equal(out, kv())
    assert threads_of_ours() == []


def test_its_threads_are_ours_and_as_many_as_connections_and_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with open_connected(store, remote_connections=2):
        until(lambda: len(threads_of_ours()) == 3)
        # All slots lie in the first; what puts send besides, in the second.
        assert [memory.readonly for memory in store.memory] == [False, False]
        assert store.memory[0].nbytes >= 50e6 - 4e6
        assert store.calls[:2] == ["attach", "attach"]
        main = threading.get_ident()
    assert main not in store.threads


def test_a_damaged_value_is_a_miss_and_written_again(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in tmp_path.iterdir():
        value = bytearray(path.read_bytes())
        value[-9] ^= 1
        path.write_bytes(value)
    out = np.zeros_like(kv())
    with open_connected(FolderStore(tmp_path)) as cache:
        assert cache.retrieve(TOKENS, out) == 0
        assert cache._native.stats()["remote_corrupt_chunks"] > 0
    assert len(list(tmp_path.iterdir())) < 4


@pytest.mark.parametrize("method", ["exists", "get_into", "put"])
def test_a_client_that_raises_is_left_alone(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    store = FolderStore(tmp_path)
    with caplog.at_level(logging.INFO, "lmcache"), open_connected(store) as cache:
        store.fails[method] = SystemExit("no\nfurther: s3://me:sesame@host")
        if method == "put":
            assert cache.store(list(range(5000, 5256)), kv()[:, :, :256].copy()) == 256
        else:
            assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 0
        until(lambda: not connected(cache))
        # One more for each that was in it already.
        (line,) = {line for line in caplog.messages if "going on without it" in line}
        why = f"{method}: SystemExit: no further: s3://me:***@host"
        assert line == f"remote cache FolderStore: {why}; going on without it until it answers"
        store.fails.clear()
        until(lambda: connected(cache))
        if method != "put":
            assert cache.retrieve(TOKENS, np.zeros_like(kv())) == 1000
    assert store.closed == 1


def test_one_that_cannot_be_attached_is_tried_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.fails["attach"] = OSError("no memory")
    with open_engine(store) as cache:
        until(lambda: cache.stats() and store.calls.count("attach") > 1)
        assert "ping" not in store.calls
        store.fails.clear()
        until(lambda: connected(cache))
        assert len(store.memory) == 2


def test_one_that_sleeps_past_the_deadline(tmp_path: Path) -> None:
    """The request goes on; the store is left alone; nobody gets the slots before it ends."""
    fill(tmp_path)
    store = FolderStore(tmp_path)
    with open_connected(store, blocking_timeout_secs=0.2, max_local_cpu_size=0.012) as cache:
        store.sleeps["get_into"] = 3.0
        reader = threading.Thread(target=lambda: cache.retrieve(TOKENS, np.zeros_like(kv())))
        reader.start()
        assert store.busy.wait(10)
        time.sleep(0.4)  # past the deadline
        started = time.monotonic()
        # Another prompt: asked for, and at once a miss.
        assert cache.retrieve(list(range(9000, 9300)), np.zeros_like(kv())) == 0
        until(lambda: not connected(cache))
        # Memory is full of these several times over, while the client writes where it was told to.
        for seed in range(8):
            other = [10_000 * (seed + 1) + token for token in range(500)]
            cache.store(other, kv(seed)[:, :, :500].copy())
            out = np.zeros_like(kv())
            hit = cache.retrieve(other, out)
            np.testing.assert_array_equal(out[:, :, :hit], kv(seed)[:, :, :hit])
        assert time.monotonic() - started < 2.0, "this was to be over before the client wakes up"
        reader.join(30)
        assert not reader.is_alive()
        until(lambda: "get_into" in store.calls and connected(cache))
        for seed in range(8):
            other = [10_000 * (seed + 1) + token for token in range(500)]
            out = np.zeros_like(kv())
            hit = cache._native and cache.retrieve(other, out)
            np.testing.assert_array_equal(out[:, :, :hit], kv(seed)[:, :, :hit])


def start_fetch(cache: LMCacheEngine) -> _native.Fetch | None:
    prompt, namespace = cache._prompt(TOKENS), cache._space.namespace
    assert prompt is not None
    assert namespace is not None
    return cache._native.fetch(namespace, prompt, 0)


def test_close_waits_for_a_call_with_slots(tmp_path: Path) -> None:
    fill(tmp_path)
    store = FolderStore(tmp_path)
    cache = open_connected(store)
    store.sleeps["get_into"] = 1.0
    fetch = start_fetch(cache)
    assert fetch is not None
    assert store.busy.wait(10)
    started = time.monotonic()
    cache.close()
    assert 0.3 < time.monotonic() - started < 10
    assert store.closed == 1
    until(lambda: threads_of_ours() == [])


def test_an_engine_closed_under_a_call_ends_with_it(tmp_path: Path) -> None:
    """The call is the last to hold the engine, and has the GIL when it lets go of it."""
    fill(tmp_path)
    store = FolderStore(tmp_path)
    cache = open_connected(store)
    store.sleeps["get_into"] = 1.0
    fetch = start_fetch(cache)
    assert fetch is not None
    reader = threading.Thread(target=fetch.wait, args=(300,))
    reader.start()
    assert store.busy.wait(10)
    cache._native.close()
    reader.join(30)
    assert not reader.is_alive()
    until(lambda: threads_of_ours() == [])
    assert store.closed == 1


def test_close_does_not_wait_for_a_call_without_slots(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.sleeps["ping"] = 2.0
    cache = open_engine(store)
    assert store.busy.wait(10)
    started = time.monotonic()
    cache.close()
    # But for its client to let go of the memory.
    assert time.monotonic() - started < 4
    assert store.closed == 1


def no_segment(folder: Path) -> Path:
    path = folder / f"lmcache-{os.geteuid()}-x"
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o600)
    return folder / "x"


def test_an_engine_that_does_not_open_leaves_the_client_to_its_owner(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(LMCacheError):
        open_engine(store, segment=str(no_segment(tmp_path)))
    assert (store.calls, store.closed) == ([], 0)
    assert threads_of_ours() == []


class Holding(FolderStore):
    """Keeps a slice of what it was given."""

    held: memoryview | None = None

    def get_into(self, keys: Any, buffers: Any) -> Any:
        self.held = buffers[0][10:20]
        return super().get_into(keys, buffers)


def test_a_slot_of_which_a_view_is_left_is_not_given_back(tmp_path: Path) -> None:
    fill(tmp_path)
    store = Holding(tmp_path)
    with open_connected(store, remote_connections=1) as cache:
        reader = threading.Thread(target=cache.prefetch, args=(TOKENS,))
        reader.start()
        until(lambda: store.held is not None)
        reader.join(0.3)
        assert cache._native.stats()["remote_read_chunks"] == 0
        while reader.is_alive():
            store.held = None
            reader.join(0.01)
        assert cache._native.stats()["remote_read_chunks"] == 4


class Cyclic(FolderStore):
    """Fails, with a cycle of error, traceback and frame that holds a slice."""

    def get_into(self, keys: Any, buffers: Any) -> Any:
        part = buffers[0][:1]
        kept = []
        try:
            raise OSError(f"{part.nbytes}")
        except OSError as error:
            kept.append(error)
            raise ValueError("no") from error


def test_a_view_in_a_cycle_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    with open_connected(Cyclic(tmp_path)) as cache:
        started = time.monotonic()
        assert cache.prefetch(TOKENS) == 0
        assert time.monotonic() - started < 5
        until(lambda: cache._native.stats()["remote_read_errors"] > 0)


def test_a_store_without_an_engine(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    service = RemoteService("my store", store, threads=3, log=lambda *_: None)
    service.start()
    native = _native.RemoteStore.open("", lambda *_: None, calls=service.calls)
    keys, memory = os.urandom(64), memoryview(bytearray(2 * 1000))
    service.attach(memory)
    assert native.write(keys, memory, 1000, 700) == 2
    assert native.find(keys) == 2
    assert native.read(keys, memory, 1000) == 2
    assert native.ping() > 0
    assert native.name == "my store"
    assert native.stat() == {
        "url": "my store",
        "server": "a folder",
        "role": "test",
        "used_bytes": 1,
        "limit_bytes": 2,
        "chunks": 2,
        "orphans": 0,
    }
    assert native.remove(keys[:32]) == 1
    assert native.clear() == 1
    assert store.memory[-1] is memory
    del native
    service.close()
    service.close()
    assert (store.closed, store.memory) == (1, [])


def test_a_store_that_does_not_answer_says_why(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.fails["ping"] = OSError("away")
    service = RemoteService("my store", store, threads=2, log=lambda *_: None)
    service.start()
    with pytest.raises(LMCacheError, match="ping: OSError: away"):
        _native.RemoteStore.open("", lambda *_: None, calls=service.calls)
    service.close()
    assert store.closed == 1


class Odd(FolderStore):
    """Answers what is no answer."""

    def exists(self, keys: Any) -> Any:
        return [1]

    def put(self, keys: Any, buffers: Any, ttl_seconds: int) -> Any:
        return None

    def remove(self, keys: Any) -> int:
        return -1

    def close(self) -> None:
        raise OSError("twice s3://me:sesame@host")


def test_answers_that_are_none(tmp_path: Path) -> None:
    lines: list[str] = []
    service = RemoteService("odd", Odd(tmp_path), threads=3, log=lambda _, line: lines.append(line))
    service.start()
    native = _native.RemoteStore.open("", lambda *_: None, calls=service.calls)
    with pytest.raises(LMCacheError, match="1 numbers, not 2"):
        native.find(bytes(64))
    with pytest.raises(LMCacheError, match="remove: "):
        native.remove(bytes(64))
    del native
    service.close()
    assert lines == ["remote cache odd: closing it: OSError: twice s3://me:***@host"]


def test_a_failure_is_one_line_without_secrets() -> None:
    assert failure_text(KeyError("x")) == "KeyError: 'x'"
    assert failure_text(IoError("the disk is full")) == "the disk is full"
    assert failure_text(OSError()) == "OSError"
    assert failure_text(OSError("a\n b sesame"), "sesame") == "OSError: a b ***"
    long = failure_text(OSError("x" * 1000))
    assert len(long) == 300
    assert long.endswith("...")
