# SPDX-License-Identifier: Apache-2.0
"""`lmcache clear` forgets what was asked for and nothing else."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from cache_process import CacheProcess

from lmcache import LMCacheEngine

PROMPT = list(range(100))


def segment_file(segment: str) -> Path:
    folder, name = os.path.split(segment)
    return Path(folder, f"lmcache-{os.geteuid()}-{name}")


def test_a_segment_in_use_is_emptied(run: Any, segment: str) -> None:
    with CacheProcess(segment) as process:
        process.store(PROMPT)
        done = run("clear", "--segment", segment, "--yes")
        assert done.status == 0, done.err
        assert "evicted 7 chunks" in done.out
        assert process.lookup(PROMPT) == 0
        assert process.store(PROMPT) == 100


def test_a_segment_that_nobody_uses_is_removed(run: Any, segment: str) -> None:
    for end in ("leave", "kill"):
        with CacheProcess(segment) as process:
            process.store(PROMPT)
            getattr(process, end)()
        assert segment_file(segment).exists()
        done = run("clear", "--segment", segment, "-y")
        assert done.status == 0
        assert "removed" in done.out
        assert not segment_file(segment).exists()
    done = run("clear", "--segment", segment, "-y")
    assert (done.status, done.out[:16]) == (0, "nothing to clear")


def test_one_model_of_several(run: Any, segment: str) -> None:
    from kv_arrays import kv_of

    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    with CacheProcess(segment) as process, LMCacheEngine(settings, model="other") as engine:
        process.store(PROMPT)
        engine.store(PROMPT, kv_of(PROMPT))
        done = run("clear", "--segment", segment, "--model", "nothing", "--yes")
        assert done.status == 2
        assert "--model = nothing: the segment holds m, other" in done.err
        done = run("clear", "--segment", segment, "--model", "m", "--yes")
        assert "evicted 7 chunks" in done.out
        assert (process.lookup(PROMPT), engine.lookup(PROMPT)) == (0, 100)


def test_it_asks_first(run: Any, segment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with CacheProcess(segment) as process:
        process.store(PROMPT)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        done = run("clear", "--segment", segment)
        assert done.status == 2
        assert "say --yes" in done.err

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for answer, left in (("n\n", 100), ("y\n", 0)):
            monkeypatch.setattr("sys.stdin", Terminal(answer))
            done = run("clear", "--segment", segment)
            assert "Forget 7 chunks (38.4 kB)" in done.out
            assert "used by 1 process(es)?" in done.out
            assert process.lookup(PROMPT) == left
