# SPDX-License-Identifier: Apache-2.0
"""Whether what a caller passes is what it must be: tokens, KV to read, KV to write."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmcache import _native
from lmcache.engine.arrays import HostArray
from lmcache.errors import GeometryError, InvalidArgumentError
from lmcache.types import KV_AXES, KVGeometry

_AXES = 5


def append_tokens(prompt: _native.Prompt, tokens: Any) -> int:
    """Append token ids (a sequence of int, an integer array or tensor); return how many.

    Raises `InvalidArgumentError` for none at all and for ids out of range, TypeError for the rest.
    """
    if not isinstance(tokens, np.ndarray) and hasattr(tokens, "__dlpack__"):
        tokens = np.from_dlpack(tokens)
    try:
        prompt.append(tokens)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    if prompt.token_count == 0:
        raise InvalidArgumentError("tokens are empty")
    return prompt.token_count


def declared_geometry(array: HostArray, what: str) -> KVGeometry:
    """Return the geometry that an array `[layers, 2, tokens, kv_heads, head_dim]` declares."""
    if len(array.shape) != _AXES or array.shape[1] != 2:
        raise GeometryError(f"{what} has shape {array.shape}: must be {KV_AXES}")
    layers, _, _, kv_heads, head_dim = array.shape
    try:
        return KVGeometry(layers, kv_heads, head_dim, array.dtype)
    except GeometryError as error:
        raise GeometryError(f"{what}: {error}") from None


def check_array(array: HostArray, what: str, geometry: KVGeometry) -> None:
    """Raise `GeometryError` unless `array` holds KV of `geometry`, in C order."""
    tokens = array.shape[2] if len(array.shape) == _AXES else None
    if tokens is None or array.shape != geometry.shape(tokens):
        layers, two, _, heads, dim = geometry.shape(0)
        wanted = f"({layers}, {two}, tokens, {heads}, {dim})"
        raise GeometryError(f"{what} has shape {array.shape}: must be {wanted}, {KV_AXES}")
    if array.dtype != geometry.dtype:
        raise GeometryError(f"{what} is {array.dtype}: must be {geometry.dtype}")
    if not array.contiguous:
        raise GeometryError(
            f"{what} is not contiguous: must be in C order, as `numpy.ascontiguousarray` or "
            "`.contiguous()` makes it"
        )


def check_source(array: HostArray, geometry: KVGeometry, tokens: int) -> None:
    """Raise `GeometryError` unless `array` is the KV of `tokens` tokens."""
    check_array(array, "kv", geometry)
    if array.shape[2] != tokens:
        raise GeometryError(f"kv holds {array.shape[2]} tokens, tokens are {tokens}")


def check_target(array: HostArray, geometry: KVGeometry) -> None:
    """Raise `GeometryError` unless KV can be written into `array`."""
    check_array(array, "out", geometry)
    if array.read_only:
        raise GeometryError("out is read-only: must be writable")
    if array.shape[2] == 0:
        raise GeometryError("out has room for no token")
