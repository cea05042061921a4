# SPDX-License-Identifier: Apache-2.0
"""What the bindings add to the native engine: the log, threads, the end of an engine."""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cache_process import CacheProcess

from lmcache import _native
from lmcache.errors import ClosedError, InvalidArgumentError, UnavailableError

Line = tuple[int, str]


@pytest.fixture
def folder() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="lmcache-test-", dir="/dev/shm")
    yield made
    shutil.rmtree(made)


def open_engine(log: Any, directory: str = "", **options: Any) -> _native.Engine:
    place = {"segment": "shared", "directory": directory} if directory else {}
    return _native.Engine.open(
        _native.EngineOptions(**{"capacity_bytes": 30_000_000, **place, **options}), log
    )


def wait_for(condition: Any) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def test_lines_of_open_have_arrived_when_it_returns(folder: str) -> None:
    lines: list[Line] = []
    first = open_engine(lambda *line: lines.append(line), folder)
    assert lines == []
    second = open_engine(lambda *line: lines.append(line), folder, capacity_bytes=300_000_000)
    [(level, text)] = lines
    assert level == 20
    assert "the 300 MB asked for here do not change it" in text
    first.close()
    second.close()


def test_lines_of_its_threads_arrive(folder: str) -> None:
    lines: list[Line] = []
    with CacheProcess(f"{folder}/shared") as process:
        engine = open_engine(lambda *line: lines.append(line), folder)
        process.kill()
        assert wait_for(lambda: lines)
        engine.close()
    assert f"process {process.pid} is gone" in lines[0][1]


def test_a_log_that_raises_stops_nothing(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    first = open_engine(lambda *_: 1 / 0, folder)
    second = open_engine(lambda *_: 1 / 0, folder, capacity_bytes=300_000_000)
    assert len(raised) == 1
    assert second.status()["entries"] == 0
    first.close()
    second.close()


def test_an_engine_without_references_leaves(folder: str) -> None:
    lines: list[Line] = []
    engine = open_engine(lambda *line: lines.append(line), folder)
    other = open_engine(lambda *line: lines.append(line), folder)
    assert len(other.status()["processes"]) == 2
    del engine
    gc.collect()
    assert len(other.status()["processes"]) == 1
    other.close()


def test_close_lets_running_calls_finish() -> None:
    engine = open_engine(lambda *_: None)
    group = _native.KvGroup(1, [64])
    geometry = _native.KvGeometry("uint8", "test", [group])
    space = engine.open_namespace(_native.NamespaceSpec("m", "", geometry, 16))
    engine.declare_lane(space, 0, 64)
    ended: list[str] = []

    def work() -> None:
        tokens = np.arange(2000, dtype=np.int32)
        try:
            while True:
                prompt = engine.new_prompt(space)
                prompt.append(tokens)
                engine.cancel(engine.reserve(space, prompt, 0, 2000)[0])
                engine.lookup(space, prompt).release()
                engine.status()
                engine.clear()
        except ClosedError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    engine.close()
    for thread in threads:
        thread.join(20)
    assert ended == ["the engine is closed"] * 3
    assert engine.closed
    engine.close()


def test_a_lease_outlives_its_engine_harmlessly() -> None:
    engine = open_engine(lambda *_: None)
    geometry = _native.KvGeometry("uint8", "test", [_native.KvGroup(16, [64])])
    space = engine.open_namespace(_native.NamespaceSpec("m", "", geometry, 16))
    engine.declare_lane(space, 0, 64)
    page = np.zeros(64, np.uint8)
    view = engine.register_view([(page.ctypes.data, 64, 64)], 1, 16)
    prompt = engine.new_prompt(space)
    prompt.append(range(16))
    ((ref,),) = engine.reserve(space, prompt, 0, 16)
    job = engine.submit_store(view, [(ref, [0])])
    assert engine.wait(job, 10_000)
    assert engine.finish(job) == []
    hit = engine.lookup(space, prompt)
    assert (hit.prefix_tokens, hit.chunk_count) == (16, 1)
    assert len(hit.refs(0)) == 1
    engine.close()
    hit.release()
    del hit
    gc.collect()


def test_errors_are_of_our_tree(folder: str) -> None:
    with pytest.raises(InvalidArgumentError, match="eviction"):
        open_engine(lambda *_: None, eviction="nonsense")
    with pytest.raises(UnavailableError):
        _native.inspect_segment(f"{folder}/nothing")
    engine = open_engine(lambda *_: None)
    with pytest.raises(InvalidArgumentError, match="view 7 is not registered"):
        engine.submit_store(7, [])
    geometry = _native.KvGeometry("uint8", "test", [_native.KvGroup(16, [64])])
    with pytest.raises(InvalidArgumentError, match="40 is not a multiple of the engine's block"):
        engine.open_namespace(_native.NamespaceSpec("m", "", geometry, 40))
    engine.close()
