# SPDX-License-Identifier: Apache-2.0
"""DLPack capsules, of both versions, are read as their makers mean them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from lmcache.engine.dlpack import borrow


class Old:
    """Makes capsules of before DLPack 1.0."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint8"])
@pytest.mark.parametrize("wrap", [Old, lambda array: array])
def test_numpy_and_we_agree(dtype: str, wrap: Any) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)[:, 1:, ::2]
    lent = borrow(wrap(array))
    assert lent.address == array.ctypes.data
    assert lent.shape == array.shape
    assert lent.strides == tuple(stride // array.itemsize for stride in array.strides)
    assert lent.dtype == dtype


def test_read_only_is_known_since_version_one() -> None:
    array = np.zeros(3)
    assert not borrow(array).read_only
    array.flags.writeable = False
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy does not lend read-only arrays")
    assert borrow(array).read_only


def test_torch_and_we_agree() -> None:
    torch = pytest.importorskip("torch")
    for name in ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "bool"):
        tensor = torch.zeros(2, 3, 4).to(getattr(torch, name))[:, 1:]
        lent = borrow(tensor)
        assert lent.address == tensor.data_ptr()
        assert (lent.shape, lent.strides) == ((2, 2, 4), tensor.stride())
        assert lent.dtype == name


def test_a_type_without_a_name_is_described() -> None:
    assert borrow(np.zeros(2, np.complex64)).dtype == "DLPack type 5 of 64 bits"


def test_the_memory_is_given_back_with_the_owner() -> None:
    array = np.zeros(1000)
    alive = weakref.ref(array)
    lent = borrow(array)
    del array
    gc.collect()
    assert alive() is not None
    del lent
    gc.collect()
    assert alive() is None
