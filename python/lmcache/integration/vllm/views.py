# SPDX-License-Identifier: Apache-2.0
"""Where vLLM's KV lies in memory: planes of equally spaced pages, read from the strides of its
tensors.

vLLM hands over one tensor `[blocks, heads, tokens, content]` per layer: a view into one buffer
whose physical order is its own choice (a layer's pages behind each other, or a block's pages of all
layers, or heads outermost). What we copy are bytes, so all that matters is which of them are
contiguous.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lmcache.errors import GeometryError


class Plane(NamedTuple):
    """Page `p` of block `b` lies at `address + b * block_stride_bytes`. As `register_view` wants
    it.
    """

    address: int
    block_stride_bytes: int
    page_bytes: int


@dataclass(frozen=True)
class KvViews:
    """The planes of one rank, and which of them belong to which layer."""

    planes: tuple[Plane, ...]
    # Layer name -> its last plane: when planes up to that one have arrived, the layer is whole.
    last_plane: Mapping[str, int]
    # The CUDA device they lie on, as torch counts; None: the host.
    cuda_device: int | None = None

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all planes."""
        return sum(plane.page_bytes for plane in self.planes)


def read_views(tensors: Mapping[str, Any], layer_names: Iterable[str], num_blocks: int) -> KvViews:
    """Return the planes of the given layers, in their order.

    Raises GeometryError when a layer is missing, lies on a device that we have no copies for or on
    another one than the rest, or does not hold `num_blocks` blocks.
    """
    devices: set[int | None] = set()
    planes: list[Plane] = []
    last_plane: dict[str, int] = {}
    for name in layer_names:
        tensor = tensors.get(name)
        if tensor is None:
            raise GeometryError(f"vLLM registered no KV for layer {name}")
        devices.add(_cuda_device(tensor.device))
        planes += layer_planes(tensor, num_blocks)
        last_plane[name] = len(planes) - 1
    if len(devices) > 1:
        raise GeometryError("the KV of one rank lies on several devices: not supported yet")
    return KvViews(tuple(planes), last_plane, next(iter(devices), None))


def _cuda_device(device: Any) -> int | None:
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        raise GeometryError(f"KV on a {device.type} device is not supported yet")
    # A tensor always says which one.
    return int(device.index)


def layer_planes(tensor: Any, num_blocks: int) -> list[Plane]:
    """Return the planes of one layer's tensor, whose first dimension counts blocks.

    One plane when the page of a block is contiguous, else one per contiguous piece of it (one per
    head where heads are stored outermost). vLLM may split a block into several kernel blocks, so
    that the first dimension is a multiple of `num_blocks`; they are joined again, or become planes
    of their own.
    """
    shape = [int(size) for size in tensor.shape]
    item = int(tensor.element_size())
    strides = [int(stride) * item for stride in tensor.stride()]
    if not shape or num_blocks <= 0 or shape[0] % num_blocks:
        raise GeometryError(f"KV of shape {shape} does not hold {num_blocks} blocks")
    run, outer = _contiguous(shape[1:], strides[1:], item)
    split = shape[0] // num_blocks
    if split > 1 and strides[0] == run:  # kernel blocks touch: together they are one page again
        run *= split
    elif split > 1:
        outer.append((split, strides[0]))
    base = int(tensor.data_ptr())
    offsets = [
        sum(part) for part in itertools.product(*([i * s for i in range(n)] for n, s in outer))
    ]
    return [Plane(base + offset, strides[0] * split, run) for offset in offsets]


def _contiguous(
    shape: list[int], strides: list[int], item: int
) -> tuple[int, list[tuple[int, int]]]:
    """Return the bytes of the innermost contiguous run, and the (size, stride) of what lies outside
    it.
    """
    dimensions = sorted(
        (stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1
    )
    run = item
    while dimensions and dimensions[0][0] == run:
        run *= dimensions.pop(0)[1]
    if any(stride < run for stride, _ in dimensions):
        raise GeometryError(f"KV of shape {shape} with strides {strides} bytes overlaps itself")
    return run, [(size, stride) for stride, size in reversed(dimensions)]
