# SPDX-License-Identifier: Apache-2.0
"""Arrays of whoever calls us: where the bytes are and what they are, without a copy.

NumPy arrays are read directly, other objects by DLPack (torch and JAX tensors, bfloat16 and fp8
included) or by the buffer protocol. DLPack is read here, since NumPy has no bfloat16 and torch
need not be imported to lend its memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmcache.engine.dlpack import CPU_DEVICES, Lent, borrow
from lmcache.errors import GeometryError


@dataclass(frozen=True)
class HostArray:
    """Memory of an array; valid while `owner` lives."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    contiguous: bool  # C order, without gaps
    read_only: bool
    owner: Any


def host_array(value: Any, what: str) -> HostArray:
    """Return where the array `value`, called `what` in messages, lies.

    Raises `GeometryError` for what is no array, lies on another device, or does not lend its
    memory.
    """
    if isinstance(value, np.ndarray):
        return _of_numpy(value)
    if hasattr(value, "__dlpack__"):
        return _of_dlpack(value, what)
    try:
        return _of_numpy(np.asarray(memoryview(value)))
    except TypeError:
        raise GeometryError(
            f"{what} is a {type(value).__name__}: must be an array (NumPy, torch, or anything "
            "with DLPack or the buffer protocol)"
        ) from None


def _of_numpy(array: np.ndarray[Any, Any]) -> HostArray:
    return HostArray(
        address=array.ctypes.data,
        shape=array.shape,
        dtype=array.dtype.name if array.dtype.isnative else array.dtype.str,
        contiguous=array.flags.c_contiguous,
        read_only=not array.flags.writeable,
        owner=array,
    )


def _of_dlpack(value: Any, what: str) -> HostArray:
    try:
        kind, _ = value.__dlpack_device__()
        lent = borrow(value) if int(kind) in CPU_DEVICES else None
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        # For instance a tensor that requires a gradient; the message says what to do.
        raise GeometryError(f"{what} does not lend its memory: {error}") from error
    if lent is None:
        device = getattr(value, "device", f"DLPack device {int(kind)}")
        raise GeometryError(f"{what} is on {device}: must be in host memory, as `.cpu()` makes it")
    return HostArray(
        address=lent.address,
        shape=lent.shape,
        dtype=lent.dtype,
        contiguous=_in_c_order(lent),
        read_only=lent.read_only,
        owner=lent.owner,
    )


def _in_c_order(lent: Lent) -> bool:
    """Tell whether strides (in elements) are those of C order; axes of length 1 do not matter."""
    expected = 1
    for length, stride in zip(reversed(lent.shape), reversed(lent.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True
