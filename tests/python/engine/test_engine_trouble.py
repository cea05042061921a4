# SPDX-License-Identifier: Apache-2.0
"""The Python API in trouble: full, failing, interrupted, closed, used by many threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, is_untouched, kv_of

from lmcache import LMCacheConfig, LMCacheEngine
from lmcache.errors import ClosedError, OutOfMemoryError, TimedOutError

PROMPT = list(range(1000, 1100))  # six chunks of 16 and a tail of 4


def test_a_full_segment_evicts_and_never_lies(make_engine: Any) -> None:
    engine = make_engine(max_local_cpu_size=0.009)
    prompts = [[1 + number, *range(2, 801)] for number in range(40)]  # 0.3 MB each
    for prompt in prompts:
        engine.store(prompt, kv_of(prompt))
    for prompt in prompts:
        out = empty_kv(len(prompt))
        found = engine.retrieve(prompt, out)
        assert is_kv_of(out, prompt[:found])
        assert is_untouched(out, found)
    assert engine.lookup(prompts[-1]) == 800
    assert engine.stats()["evicted"]["chunks"] > 0


def test_more_than_the_segment_holds_is_a_dropped_store(make_engine: Any) -> None:
    engine = make_engine(max_local_cpu_size=0.009)
    tokens = list(range(40_000))  # 15 MB
    stored = engine.store(tokens, kv_of(tokens))
    assert 0 < stored < 40_000
    assert engine.stats()["dropped_stores"]["no_space"] > 0
    out = empty_kv(40_000)
    found = engine.retrieve(tokens, out)
    assert 0 < found <= stored
    assert is_kv_of(out, tokens[:found])


def test_close_finishes_what_is_under_way(segment: str) -> None:
    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    with LMCacheEngine(settings, model="m") as engine:
        engine.store(PROMPT, kv_of(PROMPT), wait=False)
    engine.close()  # twice is no mistake
    with LMCacheEngine(settings, model="m", geometry=GEOMETRY) as engine:
        assert engine.lookup(PROMPT) == 100


def test_use_after_close(make_engine: Any) -> None:
    engine = make_engine()
    engine.close()
    assert engine.closed
    kv = kv_of(PROMPT)
    for use in (
        lambda: engine.store(PROMPT, kv),
        lambda: engine.lookup(PROMPT),
        lambda: engine.retrieve(PROMPT, kv),
        lambda: engine.prefetch(PROMPT),
        lambda: engine.pin(PROMPT),
        lambda: engine.unpin(PROMPT),
        lambda: engine.clear(),
        lambda: engine.flush(),
        lambda: engine.stats(),
        lambda: engine.record_prefill(1, 1.0),
    ):
        with pytest.raises(ClosedError, match="the engine is closed"):
            use()


def test_errors_of_the_cache_are_misses(
    make_engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(geometry=GEOMETRY)
    real = engine._native

    class Failing:
        def __getattr__(self, name: str) -> Any:
            if name in ("lookup", "submit_store", "submit_load", "clear"):
                return self._fail
            return getattr(real, name)

        def _fail(self, *_: Any) -> None:
            raise TimedOutError("the lock is held")

    monkeypatch.setattr(engine, "_native", Failing())
    assert engine.store(PROMPT, kv_of(PROMPT)) == 0
    assert engine.lookup(PROMPT) == 0
    assert engine.lookup(PROMPT) == 0
    assert engine.retrieve(PROMPT, empty_kv(100)) == 0
    assert engine.pin(PROMPT) == 0
    assert engine.clear() == 0
    lines = [line for line in caplog.messages if "the lock is held" in line]
    assert len(lines) == 4  # store, lookup, pin, clear: once each
    monkeypatch.setattr(engine, "_native", real)
    assert engine.stats()["failures"]["timeout"] == 6
    assert real.status()["writing"] == 0  # the reservations were given back


def test_a_load_that_fails_halfway_is_a_shorter_hit(
    make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    real = engine._native

    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def finish(self, job: int) -> list[int]:
            real.finish(job)
            return [2]

    monkeypatch.setattr(engine, "_native", Forgetful())
    out = empty_kv(100)
    assert engine.retrieve(PROMPT, out) == 32
    assert is_kv_of(out, PROMPT[:32])


def test_many_threads_use_one_engine(make_engine: Any) -> None:
    engine = make_engine(max_local_cpu_size=0.009)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(40):
            length = int(random.integers(1, 400))
            tokens = [int(random.integers(0, 4)), *range(2, 1 + length)]
            out = empty_kv(length)
            found = engine.retrieve(tokens, out)
            if not is_kv_of(out, tokens[:found]) or not is_untouched(out, found):
                wrong.append((tokens[0], length, found))
            engine.store(tokens, kv_of(tokens), wait=bool(random.integers(2)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    engine.flush()
    status = engine._native.status()
    assert status["writing"] == status["leased"] == 0
    assert status["bound_slots"] == status["ready"] + status["free_slots"]


def test_close_while_others_work(make_engine: Any) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    ended: list[str] = []

    def work() -> None:
        try:
            while True:
                engine.retrieve(PROMPT, empty_kv(100))
        except ClosedError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.2)
    engine.close()
    for thread in threads:
        thread.join(20)
    assert ended == ["the engine is closed"] * 3


def test_an_engine_that_is_dropped_leaves(segment: str) -> None:
    settings = LMCacheConfig(segment=segment, max_local_cpu_size=0.03, chunk_size=16)
    engine = LMCacheEngine(settings, model="m")
    with LMCacheEngine(settings, model="m") as other:
        assert len(other._native.status()["processes"]) == 2
        del engine
        gc.collect()
        assert len(other._native.status()["processes"]) == 1


def test_ctrl_c_stops_a_store(make_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    real = engine._native

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def wait(self, *_: Any) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_native", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        engine.store(PROMPT, kv_of(PROMPT))
    monkeypatch.setattr(engine, "_native", real)
    status = real.status()
    assert status["writing"] == status["leased"] == 0
    out = empty_kv(100)
    found = engine.retrieve(PROMPT, out)
    assert is_kv_of(out, PROMPT[:found])


def test_a_size_that_is_not_there(make_engine: Any) -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        make_engine(max_local_cpu_size=1e6)
    message = str(caught.value)
    assert message.startswith("max_local_cpu_size = 1e+06 GB (config): only ")
    assert "GB of memory are free" in message


PROGRAM = """
import threading
import numpy as np
from lmcache import LMCacheEngine
config = {"max_local_cpu_size": 0.1, "segment": "private"}
cache = LMCacheEngine(config, model="m")
kv = np.ones((4, 2, 2048, 4, 64), np.float16)
begun = threading.Barrier(5)
threading.excepthook = lambda args: None  # ClosedError, from the end of the program on
def work(first):
    cache.store(range(first, first + 2048), kv)
    begun.wait()
    while True:
        cache.retrieve(range(first, first + 2048), np.empty_like(kv))
        first += 1
        cache.store(range(first, first + 2048), kv)
for thread in range(4):
    threading.Thread(target=work, args=(100_000 * thread,), daemon=True).start()
begun.wait()
"""


def test_a_program_ends_while_its_threads_are_inside() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
