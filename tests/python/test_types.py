# SPDX-License-Identifier: Apache-2.0
"""A geometry is right from the start, or refused with the member, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lmcache.errors import GeometryError, InvalidArgumentError
from lmcache.types import DTYPE_BYTES, KVGeometry, dtype_name

RIGHT: dict[str, Any] = {"layers": 3, "kv_heads": 2, "head_dim": 8, "dtype": "float16"}


def test_sizes_are_those_of_an_array() -> None:
    geometry = KVGeometry(**RIGHT)
    array = np.zeros(geometry.shape(5), np.float16)
    assert array.shape == (3, 2, 5, 2, 8)
    assert geometry.planes == 6
    assert geometry.plane_bytes == array[0, 0, 0].nbytes
    assert geometry.token_bytes * 5 == array.nbytes


@pytest.mark.parametrize("dtype", ["float16", np.float16, np.dtype("float16")])
def test_a_dtype_of_numpy_is_its_name(dtype: Any) -> None:
    assert KVGeometry(**{**RIGHT, "dtype": dtype}) == KVGeometry(**RIGHT)


def test_a_dtype_of_torch_is_its_name() -> None:
    torch = pytest.importorskip("torch")
    for name, size in DTYPE_BYTES.items():
        dtype = getattr(torch, name)
        assert dtype_name(dtype) == name
        assert dtype.itemsize == size


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("layers", 0, "layers = 0: must be a whole number of at least 1"),
        ("layers", 4000, "layers = 4000: must be at most 2048"),
        ("kv_heads", -1, "kv_heads = -1: must be"),
        ("kv_heads", True, "kv_heads = True: must be"),
        ("head_dim", 8.0, "head_dim = 8.0: must be"),
        ("head_dim", "8", "head_dim = '8': must be"),
        ("dtype", "float17", "dtype = float17: must be one of float64, float32"),
        ("dtype", "complex64", "dtype = complex64: must be one of"),
        ("dtype", None, "dtype = None: must be one of"),
    ],
)
def test_a_wrong_member_is_named(member: str, value: Any, told: str) -> None:
    with pytest.raises(GeometryError) as caught:
        KVGeometry(**{**RIGHT, member: value})
    assert str(caught.value).startswith(told)
    assert isinstance(caught.value, InvalidArgumentError)
    assert isinstance(caught.value, ValueError)
