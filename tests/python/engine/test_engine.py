# SPDX-License-Identifier: Apache-2.0
"""The Python API on the native library: bit-exact, exact to the token, never in the way."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, is_untouched, kv_of

from lmcache import KVGeometry, LMCacheConfig, LMCacheEngine
from lmcache.errors import ClosedError, OutOfMemoryError, TimedOutError

PROMPT = list(range(1000, 1100))  # six chunks of 16 and a tail of 4


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 31, 32, 33, 100])
def test_what_was_stored_comes_back_bit_exact(make_engine: Any, count: int) -> None:
    engine = make_engine()
    tokens, out = PROMPT[:count], empty_kv(count + 5)
    assert engine.lookup(tokens) == 0
    assert engine.store(tokens, kv_of(tokens)) == count
    assert engine.lookup(tokens) == count
    assert engine.retrieve(tokens, out) == count
    assert is_kv_of(out, tokens)
    assert is_untouched(out, count)


@pytest.mark.parametrize("common", [1, 7, 15, 16, 17, 40, 95, 96, 97, 99])
def test_two_prompts_share_what_they_have_in_common(make_engine: Any, common: int) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    other, out = PROMPT[:common] + [7] * 30, empty_kv(common + 30)
    assert engine.lookup(other) == common
    assert engine.retrieve(other, out) == common
    assert is_kv_of(out, PROMPT[:common])
    assert is_untouched(out, common)


def test_a_longer_prompt_adds_only_what_is_new(make_engine: Any) -> None:
    engine = make_engine()
    assert engine.store(PROMPT[:40], kv_of(PROMPT[:40])) == 40
    assert engine.store(PROMPT[:40], kv_of(PROMPT[:40])) == 0
    assert (
        engine.store(PROMPT[:20], kv_of(PROMPT[:20])) == 0
    )  # its tail begins a chunk that is there
    # Two chunks are there; the tail of 8 gives way to a whole chunk.
    assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT) - 32
    out = empty_kv(len(PROMPT))
    assert engine.retrieve(PROMPT, out) == len(PROMPT)
    assert is_kv_of(out, PROMPT)


def test_the_room_of_out_is_the_limit(make_engine: Any) -> None:
    engine = make_engine()
    engine.store(PROMPT, kv_of(PROMPT))
    out = empty_kv(21)
    assert engine.retrieve(PROMPT, out) == 21
    assert is_kv_of(out, PROMPT[:21])


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"revision": "2"},
        {"lora": "adapter"},
        {"salt": "tenant"},
        {"geometry": KVGeometry(3, 2, 8, "float16")},
        {"geometry": KVGeometry(3, 4, 4, "float32")},
    ],
)
def test_another_namespace_finds_nothing(segment: str, other: dict[str, Any]) -> None:
    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    same = {"model": "m", "geometry": GEOMETRY}
    with LMCacheEngine(settings, **same) as engine:
        engine.store(PROMPT, kv_of(PROMPT))
        with LMCacheEngine(settings, **{**same, **other}) as stranger:
            assert stranger.lookup(PROMPT) == 0
        with LMCacheEngine(settings, **same) as twin:
            assert twin.lookup(PROMPT) == len(PROMPT)
    with LMCacheEngine({**settings, "chunk_size": 32}, **same) as stranger:
        assert stranger.lookup(PROMPT) == 0


def test_settings_that_keep_nothing(make_engine: Any) -> None:
    for setting in ({"enable_prefix_cache": False}, {"local_cpu": False}):
        engine = make_engine(**setting)
        assert engine.store(PROMPT, kv_of(PROMPT)) == 0
        assert engine.lookup(PROMPT) == 0
        assert engine.pin(PROMPT) == 0
        out = empty_kv(100)
        assert engine.retrieve(PROMPT, out) == 0
        assert is_untouched(out, 0)


def test_whole_chunks_only(make_engine: Any) -> None:
    engine = make_engine(save_unfull_chunk=False)
    assert engine.store(PROMPT[:15], kv_of(PROMPT[:15])) == 0
    assert engine.store(PROMPT, kv_of(PROMPT)) == 96
    assert engine.lookup(PROMPT) == 96


def test_hits_that_are_too_short_are_not_taken(make_engine: Any) -> None:
    engine = make_engine(min_retrieve_tokens=40)
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.lookup([*PROMPT[:39], 7, 7]) == 0
    assert engine.retrieve([*PROMPT[:39], 7, 7], empty_kv(41)) == 0
    assert engine.lookup([*PROMPT[:40], 7, 7]) == 40
    assert engine.stats()["tiers"]["dram"]["entries"] == 7


def test_chunks_expire(make_engine: Any) -> None:
    engine = make_engine(ttl=1)
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.lookup(PROMPT) == len(PROMPT)
    pause = threading.Event()
    deadline = 50
    while engine.lookup(PROMPT) and deadline:
        pause.wait(0.1)
        deadline -= 1
    assert deadline
    assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)


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


def test_pinned_chunks_stay(make_engine: Any) -> None:
    engine = make_engine(max_local_cpu_size=0.009)
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.pin(PROMPT) == 100
    assert engine.pin([*PROMPT, 5]) == 100
    for number in range(30):
        other = [number, *range(2, 801)]
        engine.store(other, kv_of(other))
    assert engine.clear() > 0
    out = empty_kv(100)
    assert engine.retrieve(PROMPT, out) == 100
    assert is_kv_of(out, PROMPT)
    assert engine.unpin(PROMPT[:50]) == 0  # pins go by what was pinned
    assert engine.unpin(PROMPT) == 100
    assert engine.unpin(PROMPT) == 0
    engine.clear()
    assert engine.lookup(PROMPT) == 100
    assert engine.unpin([*PROMPT, 5]) == 100
    engine.clear()
    assert engine.lookup(PROMPT) == 0


def test_prefetch_says_how_much_is_there_and_keeps_it_young(make_engine: Any) -> None:
    engine = make_engine(max_local_cpu_size=0.009)
    prompts = [[1 + number, *range(2, 301)] for number in range(4)]
    for prompt in prompts:
        engine.store(prompt, kv_of(prompt))
    assert engine.prefetch([9, 9]) == 0
    assert engine.prefetch(prompts[0]) == 300
    filler = [77, *range(2, 20_001)]
    engine.store(filler[:8500], kv_of(filler[:8500]))
    left = [engine.lookup(prompt) for prompt in prompts]
    assert left[0] >= max(left[1:3])


def test_clear_forgets_this_model_only(segment: str) -> None:
    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    with LMCacheEngine(settings, model="a") as one, LMCacheEngine(settings, model="b") as two:
        one.store(PROMPT, kv_of(PROMPT))
        two.store(PROMPT, kv_of(PROMPT))
        assert one.clear() == 7
        assert (one.lookup(PROMPT), two.lookup(PROMPT)) == (0, 100)
        one.store(PROMPT, kv_of(PROMPT))
        assert one.clear(all_models=True) == 14
        assert (one.lookup(PROMPT), two.lookup(PROMPT)) == (0, 0)


def test_stores_behind_the_caller(make_engine: Any) -> None:
    engine = make_engine()
    kv = kv_of(PROMPT)
    alive = weakref.ref(kv)
    assert engine.store(PROMPT, kv, wait=False) == 100
    del kv
    gc.collect()
    engine.flush()
    assert engine.lookup(PROMPT) == 100
    out = empty_kv(100)
    assert engine.retrieve(PROMPT, out) == 100
    assert is_kv_of(out, PROMPT)
    gc.collect()
    assert alive() is None  # nobody holds it any longer


def test_async_write_off_waits_always(make_engine: Any) -> None:
    engine = make_engine(async_write=False)
    engine.store(PROMPT, kv_of(PROMPT), wait=False)
    assert engine.lookup(PROMPT) == 100


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


def test_the_geometry_is_found_in_the_segment(
    segment: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    with LMCacheEngine(settings, model="m") as engine, LMCacheEngine(settings, model="m") as twin:
        with caplog.at_level(logging.INFO, "lmcache"):
            assert twin.lookup(PROMPT) == 0
            assert twin.lookup(PROMPT) == 0
        told = [record for record in caplog.messages if "KV of m is not found" in record]
        assert len(told) == 1
        assert twin.geometry is None
        engine.store(PROMPT, kv_of(PROMPT))
        assert twin.lookup(PROMPT) == 100
        assert twin.geometry == GEOMETRY
        assert twin.unpin(PROMPT) == 0


def test_two_geometries_must_be_told_apart(segment: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"segment": segment, "max_local_cpu_size": 0.03, "chunk_size": 16}
    half = KVGeometry(3, 2, 8, "float16")
    with LMCacheEngine(settings, model="m") as one, LMCacheEngine(settings, model="m") as two:
        one.store(PROMPT, kv_of(PROMPT))
        two.store(PROMPT, kv_of(PROMPT, half))
        with LMCacheEngine(settings, model="m") as asking, caplog.at_level(logging.INFO):
            assert asking.lookup(PROMPT) == 0
            assert any("in 2 geometries" in line for line in caplog.messages)
            assert asking.retrieve(PROMPT, empty_kv(100, half)) == 100


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
