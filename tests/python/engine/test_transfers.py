# SPDX-License-Identifier: Apache-2.0
"""Jobs between arrays and the segment: pieces, failures, and nothing left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, kv_of

from lmcache.engine import transfers
from lmcache.engine.arrays import host_array
from lmcache.engine.transfers import load, start_store
from lmcache.errors import InternalError

PROMPT = list(range(40))


class Faulty:
    """The native engine, but for the calls that a test replaces."""

    def __init__(self, real: Any, **replaced: Any) -> None:
        self._real = real
        self._replaced = replaced
        self.views: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._real, name)

    def register_view(self, *arguments: Any) -> int:
        view: int = self._real.register_view(*arguments)
        self.views.add(view)
        return view

    def unregister_view(self, view: int) -> None:
        self.views.remove(view)
        self._real.unregister_view(view)


def begin(engine: Any, native: Any, tokens: list[int], end: int | None = None) -> Any:
    prompt = engine._prompt(tokens)
    space = (engine._space.namespace, GEOMETRY)
    array = host_array(kv_of(tokens), "kv")
    return start_store(native, space, prompt, array, len(tokens) if end is None else end)


@pytest.fixture
def engine(make_engine: Any) -> Any:
    return make_engine(geometry=GEOMETRY)


def test_a_store_counts_its_pieces(engine: Any) -> None:
    native = Faulty(engine._native)
    copy = begin(engine, native, PROMPT)
    assert copy.piece_tokens == [16, 16, 8]
    assert copy.size_bytes == 40 * GEOMETRY.token_bytes
    assert copy.finish() == [16, 16, 8]
    assert copy.done()
    assert native.views == set()
    assert begin(engine, native, PROMPT) is None  # all there
    assert native.views == set()


def test_a_store_may_end_before_the_prompt(engine: Any) -> None:
    assert begin(engine, engine._native, PROMPT, end=32).finish() == [16, 16]
    assert engine.lookup(PROMPT) == 32


def test_a_store_that_is_refused_gives_its_slots_back(engine: Any) -> None:
    def refuse(*_: Any) -> None:
        raise InternalError("no")

    native = Faulty(engine._native, submit_store=refuse)
    with pytest.raises(InternalError):
        begin(engine, native, PROMPT)
    assert native.views == set()
    assert engine._native.status()["writing"] == 0


def test_a_cache_that_cannot_even_look_stores_nothing(engine: Any) -> None:
    native = Faulty(engine._native, reserve=lambda *_: [[]])
    assert begin(engine, native, PROMPT) is None
    assert native.views == set()


def test_a_copy_that_does_not_end_is_cancelled(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(transfers, "_SLOWEST_BYTES_PER_S", 1e15)
    cancelled: list[int] = []

    def cancel_job(job: int) -> None:
        cancelled.append(job)
        engine._native.cancel_job(job)

    native = Faulty(engine._native, wait=lambda *_: False, cancel_job=cancel_job)
    copy = begin(engine, native, PROMPT)
    assert set(zip(copy.finish(), [16, 16, 8], strict=True)) <= {(16, 16), (8, 8), (0, 16), (0, 8)}
    assert cancelled == [copy.job]
    assert native.views == set()


def test_a_load_stops_at_the_first_gap(engine: Any) -> None:
    engine.store(PROMPT, kv_of(PROMPT))
    prompt, out = engine._prompt(PROMPT), empty_kv(40)

    def finish(job: int) -> list[int]:
        engine._native.finish(job)
        return [1]

    native = Faulty(engine._native, finish=finish)
    with engine._native.lookup(engine._space.namespace, prompt) as hit:
        assert load(native, GEOMETRY, hit, host_array(out, "out"), 16) == 16
    assert native.views == set()


def test_a_load_of_a_chunk_that_is_gone_counts_it(engine: Any) -> None:
    engine.store(PROMPT, kv_of(PROMPT))
    prompt, out = engine._prompt(PROMPT), empty_kv(40)
    hit = engine._native.lookup(engine._space.namespace, prompt)
    refs = hit.refs(0)
    hit.release()
    engine.clear()

    class Stale:
        prefix_tokens = 40

        def refs(self, _lane: int) -> list[int]:
            return refs

    assert load(engine._native, GEOMETRY, Stale(), host_array(out, "out"), 16) == 0
    assert (out == 99).all()
    assert engine.stats()["load_failures"]["gone"] == 3


def test_planes_of_an_array_are_k_and_v_of_each_layer(engine: Any) -> None:
    kv = kv_of(PROMPT)
    engine.store(PROMPT, kv)
    out = np.zeros_like(kv)
    engine.retrieve(PROMPT[:20], out[:, :, :20].copy())
    wide = empty_kv(64)
    assert engine.retrieve(PROMPT, wide) == 40  # planes lie 64 tokens apart here
    assert is_kv_of(wide, PROMPT)
