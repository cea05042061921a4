# SPDX-License-Identifier: Apache-2.0
"""Real processes on one segment: what one stored the others find, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cache_process import SETTINGS, CacheProcess, put_auto_into
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, kv_of

import lmcache.config.model
from lmcache import LMCacheEngine
from lmcache.errors import ClosedError

PROMPT = list(range(500, 600))
FOUND = [100, True]

pytestmark = pytest.mark.multiprocess


def open_engine(segment: str, **settings: Any) -> LMCacheEngine:
    return LMCacheEngine({**SETTINGS, "segment": segment, **settings}, model="m")


def eventually(condition: Callable[[], Any], seconds: float = 20) -> bool:
    """Wait for what another thread or process brings about on its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def segment_file(folder: str, name: str) -> Path:
    return Path(folder, f"lmcache-{os.geteuid()}-{name}")


@pytest.fixture
def auto_folder(segment: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the folder where `auto` lies during this test."""
    folder = str(Path(segment).parent)
    monkeypatch.setattr(lmcache.config.model, "segment_place", lmcache.config.model.segment_place)
    put_auto_into(folder)
    return folder


def test_two_processes_share_what_each_stored(segment: str) -> None:
    with CacheProcess(segment) as other, open_engine(segment) as engine:
        assert other.store(PROMPT) == 100
        out = empty_kv(100)
        assert engine.retrieve(PROMPT, out) == 100
        assert is_kv_of(out, PROMPT)
        longer = [*PROMPT, *range(60)]
        assert engine.store(longer, kv_of(longer)) == 64
        assert other.retrieve(longer) == [160, True]
        assert other.stats()["source"] == "engine"
        processes = engine.observed.segment()["processes"]
        assert sorted(process["pid"] for process in processes) == sorted([os.getpid(), other.pid])


def test_a_pin_ends_with_its_process(segment: str) -> None:
    with CacheProcess(segment) as other, open_engine(segment) as engine:
        other.store(PROMPT)
        assert other.pin(PROMPT) == 100
        assert engine.clear() == 0  # binds nothing, finds nothing to remove
        assert engine.lookup(PROMPT) == 100
        other.kill()
        assert eventually(lambda: engine.observed.segment()["leased"] == 0)
        assert engine.clear() == 7
        assert engine.lookup(PROMPT) == 0


def test_slots_of_a_killed_process_come_back(segment: str) -> None:
    with CacheProcess(segment) as other, open_engine(segment) as engine:
        other.store(PROMPT[:16])
        half_written = list(range(160))
        assert other.reserve(half_written) == 10
        assert engine.lookup(half_written) == 0
        assert engine.observed.segment()["writing"] == 10
        other.kill()
        assert eventually(lambda: engine.observed.segment()["writing"] == 0)
        status = engine.observed.segment()
        assert status["bound_slots"] == status["ready"] + status["free_slots"]
        assert status["total"]["reaped_processes"] == 1
        assert engine.store(half_written, kv_of(half_written)) == 160


@pytest.mark.parametrize("kind", ["auto", "named"])
def test_a_killed_process_leaves_a_warm_segment(segment: str, auto_folder: str, kind: str) -> None:
    name = "auto" if kind == "auto" else segment
    with CacheProcess(name, auto_folder) as first:
        first.store(PROMPT)
        first.reserve(list(range(32)))
        first.kill()
    with CacheProcess(name, auto_folder) as second:
        assert second.retrieve(PROMPT) == FOUND
        assert eventually(lambda: second.status()["writing"] == 0)
        second.kill()
    with open_engine(name) as engine:
        assert engine.lookup(PROMPT) == 100
        assert engine.geometry == GEOMETRY


def test_the_last_to_leave_removes_auto(auto_folder: str) -> None:
    file = segment_file(auto_folder, "auto")
    with CacheProcess("auto", auto_folder) as first, CacheProcess("auto", auto_folder) as second:
        first.store(PROMPT)
        first.leave()
        assert file.exists()
        assert second.retrieve(PROMPT) == FOUND
        second.leave()
        assert not file.exists()


def test_the_last_to_leave_keeps_a_name(segment: str) -> None:
    file = segment_file(*os.path.split(segment))
    with CacheProcess(segment) as first:
        first.store(PROMPT)
        first.leave()
    assert file.exists()
    with CacheProcess(segment) as second:
        assert second.retrieve(PROMPT) == FOUND


def test_an_interrupted_program_leaves_too(auto_folder: str) -> None:
    with CacheProcess("auto", auto_folder) as process:
        process.store(PROMPT)
        os.kill(process.pid, signal.SIGINT)
        process._process.wait(30)
    assert not segment_file(auto_folder, "auto").exists()


def test_a_forked_child_is_told_and_harms_nothing(segment: str) -> None:
    with open_engine(segment) as engine:
        engine.store(PROMPT, kv_of(PROMPT))
        engine.pin(PROMPT)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            told = ""
            try:
                engine.lookup(PROMPT)
            except ClosedError as error:
                told = str(error)
            engine.close()
            del engine
            os.write(write, told.encode())
            os._exit(0)
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0
        with os.fdopen(read) as pipe:
            assert f"was opened by process {os.getpid()}" in pipe.read()
        status = engine.observed.segment()
        assert status["leased"] == 7
        assert len(status["processes"]) == 1
        assert engine.unpin(PROMPT) == 100


def test_processes_come_and_go_at_random(segment: str) -> None:
    """Four processes in a segment far too small; one after the other is killed."""
    settings = {"max_local_cpu_size": 0.02}
    prompts = [[number, *range(400)] for number in range(150)]  # 23 MB
    with open_engine(segment, **settings) as engine:
        processes = [CacheProcess(segment, **settings) for _ in range(4)]
        try:
            for at in range(60):
                process = processes[at % 4]
                process.store(prompts[at * 7 % 150])
                found, right = process.retrieve(prompts[at * 3 % 150])
                assert right, found
                if at % 6 == 5:
                    process.reserve([at, *range(1000, 1100)])
                    process.kill()
                    process.__exit__()
                    processes[at % 4] = CacheProcess(segment, **settings)
        finally:
            for process in processes:
                process.__exit__()
        assert eventually(lambda: len(engine.observed.segment()["processes"]) == 1)
        status = engine.observed.segment()
        assert status["writing"] == status["leased"] == 0
        assert status["bound_slots"] == status["ready"] + status["free_slots"]
        assert status["total"]["reaped_processes"] == 14
