# SPDX-License-Identifier: Apache-2.0
"""The Python API on the native library: bit-exact, exact to the token, never in the way."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import Any

import pytest
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, is_untouched, kv_of

from lmcache import KVGeometry, LMCacheEngine

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
    engine = make_engine(ttl=2)  # in whole seconds: gone after one to two
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.lookup(PROMPT) == len(PROMPT)
    pause = threading.Event()
    deadline = 50
    while engine.lookup(PROMPT) and deadline:
        pause.wait(0.1)
        deadline -= 1
    assert deadline
    assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)


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
