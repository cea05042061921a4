# SPDX-License-Identifier: Apache-2.0
"""Reading a DLPack capsule: the structures of dlpack.h, version 1, and the older ones.

The capsule is borrowed, not consumed: it is kept as long as the memory is used, and its own
destructor gives the memory back.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, ClassVar

CPU_DEVICES = (1, 3)  # kDLCPU, kDLCUDAHost (pinned)

# (DLDataTypeCode, bits) -> the name NumPy and torch use.
_DTYPES = {
    (2, 64): "float64",
    (2, 32): "float32",
    (2, 16): "float16",
    (4, 16): "bfloat16",
    (0, 64): "int64",
    (0, 32): "int32",
    (0, 16): "int16",
    (0, 8): "int8",
    (1, 8): "uint8",
    (6, 8): "bool",
    (10, 8): "float8_e4m3fn",
    (11, 8): "float8_e4m3fnuz",
    (12, 8): "float8_e5m2",
    (13, 8): "float8_e5m2fnuz",
}
_READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY
_UNVERSIONED, _VERSIONED = b"dltensor", b"dltensor_versioned"


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements; NULL: C order
        ("byte_offset", ctypes.c_uint64),
    ]


class _VersionedTensor(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_: ClassVar = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


@dataclass(frozen=True)
class Lent:
    """Memory that an object lends while `owner` lives. Strides are in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    read_only: bool
    owner: Any


def borrow(value: Any) -> Lent:
    """Return the memory of an object with `__dlpack__`, which must lie on the CPU.

    Raises what `__dlpack__` raises (BufferError, as a rule).
    """
    try:
        capsule = value.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before DLPack 1.0, or without the argument
        capsule = value.__dlpack__()
    if _is_valid(capsule, _VERSIONED):
        managed = _VersionedTensor.from_address(_pointer(capsule, _VERSIONED))
        tensor, read_only = managed.tensor, bool(managed.flags & _READ_ONLY)
    else:  # DLManagedTensor begins with its DLTensor
        tensor, read_only = _Tensor.from_address(_pointer(capsule, _UNVERSIONED)), False
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if tensor.strides:
        strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim))
    else:
        strides = _c_order(shape)
    name = f"DLPack type {tensor.code} of {tensor.bits} bits"
    return Lent(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        strides=strides,
        dtype=_DTYPES.get((tensor.code, tensor.bits), name) if tensor.lanes == 1 else name,
        read_only=read_only,
        owner=(capsule, value),
    )


def _c_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return tuple(reversed(strides))
