# SPDX-License-Identifier: Apache-2.0
"""Bad input: a clear message each, and nothing of what was stored is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kv_arrays import GEOMETRY, empty_kv, is_kv_of, kv_of

from lmcache.errors import GeometryError, InvalidArgumentError

PROMPT = list(range(50))


@pytest.fixture
def engine(make_engine: Any) -> Any:
    """Return an engine that holds something; check afterwards that it still does."""
    made = make_engine()
    made.store(PROMPT, kv_of(PROMPT))
    yield made
    out = empty_kv(50)
    assert made.retrieve(PROMPT, out) == 50
    assert is_kv_of(out, PROMPT)
    assert made._native.status()["writing"] == 0


@pytest.mark.parametrize(
    ("tokens", "error", "told"),
    [
        ([], InvalidArgumentError, "tokens are empty"),
        (np.zeros(0, np.int32), InvalidArgumentError, "tokens are empty"),
        ([1, -1], InvalidArgumentError, "token id -1 at position 1: ids are 0 to 2147483647"),
        ([1, 2**31], InvalidArgumentError, "token id 2147483648 at position 1"),
        ([2**70], InvalidArgumentError, "token id 1180591620717411303424 at position 0"),
        (np.array([3, -7]), InvalidArgumentError, "token id -7 at position 1"),
        ([1, "2"], TypeError, ""),
        ([1, 2.5], TypeError, ""),
        ("12", TypeError, "must be a sequence of int or an integer array"),
        (b"12", TypeError, "must be a sequence of int or an integer array"),
        (None, TypeError, "must be a sequence of int or an integer array"),
        (12, TypeError, "must be a sequence of int or an integer array"),
        (np.zeros(3, np.float32), TypeError, "must be 32- or 64-bit integers"),
        (np.zeros((2, 2), np.int64), TypeError, "must be one-dimensional"),
    ],
)
def test_tokens(engine: Any, tokens: Any, error: type[Exception], told: str) -> None:
    count = len(tokens) if hasattr(tokens, "__len__") else 1
    calls: list[Callable[[], Any]] = [
        lambda: engine.store(tokens, empty_kv(count)),
        lambda: engine.lookup(tokens),
        lambda: engine.retrieve(tokens, empty_kv(max(1, count))),
        lambda: engine.prefetch(tokens),
        lambda: engine.pin(tokens),
        lambda: engine.unpin(tokens),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert told in str(caught.value)


@pytest.mark.parametrize("kind", [list, tuple, np.int32, np.int64, np.uint32, np.uint64, "torch"])
def test_tokens_of_every_kind_are_the_same(engine: Any, kind: Any) -> None:
    if kind == "torch":
        tokens = pytest.importorskip("torch").tensor(PROMPT)
    elif kind in (list, tuple):
        tokens = kind(PROMPT)
    else:
        tokens = np.array(PROMPT, kind)
    assert engine.lookup(tokens) == 50
    assert engine.lookup(tokens[::2]) == 1  # strides are followed


WRONG_ARRAYS = [
    (lambda: np.zeros((2, 2, 50, 2, 8), np.float32), "has shape (2, 2, 50, 2, 8): must be (3, 2, "),
    (lambda: np.zeros((3, 2, 50, 4, 8), np.float32), "has shape (3, 2, 50, 4, 8): must be (3, 2, "),
    (lambda: np.zeros((3, 2, 50, 2, 4), np.float32), "has shape (3, 2, 50, 2, 4): must be (3, 2, "),
    (lambda: np.zeros((3, 1, 50, 2, 8), np.float32), "has shape (3, 1, 50, 2, 8): must be (3, 2, "),
    (
        lambda: np.zeros((3, 2, 50, 16), np.float32),
        "has shape (3, 2, 50, 16): must be (3, 2, token",
    ),
    (lambda: np.zeros((3, 2, 50, 2, 8), np.float16), "is float16: must be float32"),
    (lambda: np.zeros((3, 2, 50, 2, 8), np.int32), "is int32: must be float32"),
    (lambda: np.zeros((3, 2, 50, 2, 8), ">f4"), "is >f4: must be float32"),
    (lambda: np.zeros((3, 2, 51, 2, 8), np.float32)[:, :, :50], "is not contiguous: must be in C"),
    (lambda: np.zeros((3, 2, 2, 50, 8), np.float32).swapaxes(2, 3), "is not contiguous"),
    (lambda: [[1.0]], "is a list: must be an array"),
    (lambda: None, "is a NoneType: must be an array"),
]


@pytest.mark.parametrize(("make", "told"), WRONG_ARRAYS)
def test_arrays(engine: Any, make: Callable[[], Any], told: str) -> None:
    for name, call in (("kv", engine.store), ("out", engine.retrieve)):
        with pytest.raises(GeometryError) as caught:
            call(PROMPT, make())
        assert str(caught.value).startswith(f"{name} {told}")


def test_kv_of_another_number_of_tokens(engine: Any) -> None:
    for count in (0, 49, 51):
        with pytest.raises(GeometryError, match=f"kv holds {count} tokens, tokens are 50"):
            engine.store(PROMPT, empty_kv(count))


def test_out_that_cannot_be_written(engine: Any) -> None:
    fixed = empty_kv(50)
    fixed.flags.writeable = False
    with pytest.raises(GeometryError, match="out is read-only: must be writable"):
        engine.retrieve(PROMPT, fixed)
    with pytest.raises(GeometryError, match="out has room for no token"):
        engine.retrieve(PROMPT, empty_kv(0))


def test_the_first_array_must_declare_a_geometry(make_engine: Any) -> None:
    engine = make_engine()
    for shape in ((3, 50, 2, 2, 8), (50, 2, 8), (0, 2, 50, 2, 8)):
        with pytest.raises(GeometryError, match=r"kv"):
            engine.store(PROMPT, np.zeros(shape, np.float32))
    with pytest.raises(GeometryError, match="kv: dtype = complex64: must be one of"):
        engine.store(PROMPT, np.zeros((3, 2, 50, 2, 8), np.complex64))
    with pytest.raises(GeometryError, match="kv holds 49 tokens"):
        engine.store(PROMPT, np.zeros((2, 2, 49, 2, 8), np.float32))
    assert engine.geometry is None  # a mistake binds nothing
    assert engine.store(PROMPT, kv_of(PROMPT)) == 50
    assert engine.geometry == GEOMETRY


def test_a_read_only_source_is_fine(make_engine: Any) -> None:
    kv = kv_of(PROMPT)
    kv.flags.writeable = False
    assert make_engine().store(PROMPT, kv) == 50


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32", "float8_e4m3fn"])
def test_torch_tensors_of_every_type_come_back(make_engine: Any, name: str) -> None:
    torch = pytest.importorskip("torch")
    kv = torch.from_numpy(kv_of(PROMPT)).to(getattr(torch, name))
    engine, out = make_engine(), torch.zeros_like(kv)
    assert engine.store(PROMPT, kv) == 50
    assert engine.geometry.dtype == name
    assert engine.retrieve(PROMPT, out) == 50
    assert torch.equal(out.view(torch.uint8), kv.view(torch.uint8))


def test_torch_and_numpy_exchange_kv(make_engine: Any) -> None:
    torch = pytest.importorskip("torch")
    engine, out = make_engine(), torch.zeros(GEOMETRY.shape(50))
    engine.store(PROMPT, kv_of(PROMPT))
    assert engine.retrieve(PROMPT, out) == 50
    assert is_kv_of(out.numpy(), PROMPT)
