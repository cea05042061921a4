# SPDX-License-Identifier: Apache-2.0
"""Plain values that the Python layers exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmcache.errors import GeometryError

# The axes of the KV of some tokens, as one array. The name is part of what a stored chunk means.
KV_LAYOUT = "layers,2,tokens,kv_heads,head_dim"
KV_AXES = "[layers, 2, tokens, kv_heads, head_dim]"

# Bytes of one element, by the name that NumPy and torch share.
DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "int8": 1,
    "uint8": 1,
}

_MOST_LAYERS = 2048


@dataclass(frozen=True)
class KVGeometry:
    """What the KV of one token is made of: `[layers, 2, tokens, kv_heads, head_dim]`, K before V.

    `dtype` is a name ("float16", "bfloat16"), a NumPy dtype or a torch dtype. KV is exchanged only
    between equal geometries. Raises `lmcache.errors.GeometryError`.
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str

    def __post_init__(self) -> None:
        for name in ("layers", "kv_heads", "head_dim"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise GeometryError(f"{name} = {value!r}: must be a whole number of at least 1")
        if self.layers > _MOST_LAYERS:
            raise GeometryError(f"layers = {self.layers}: must be at most {_MOST_LAYERS}")
        name = dtype_name(self.dtype)
        if name not in DTYPE_BYTES:
            raise GeometryError(f"dtype = {name}: must be one of {', '.join(DTYPE_BYTES)}")
        object.__setattr__(self, "dtype", name)

    @property
    def planes(self) -> int:
        """K and V of each layer."""
        return self.layers * 2

    @property
    def plane_bytes(self) -> int:
        """Bytes of K, or of V, of one token in one layer."""
        return self.kv_heads * self.head_dim * DTYPE_BYTES[self.dtype]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return self.planes * self.plane_bytes

    def shape(self, tokens: int) -> tuple[int, int, int, int, int]:
        """Return the shape of the KV of `tokens` tokens."""
        return (self.layers, 2, tokens, self.kv_heads, self.head_dim)


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype of NumPy or torch, or of a class such as `numpy.float16`."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    return name.removeprefix("torch.")
