# SPDX-License-Identifier: Apache-2.0
"""Planes read from strides address exactly the bytes of each block, in every order vLLM stores
them.
"""

from __future__ import annotations

import ctypes
import itertools
import types

import numpy as np
import pytest

from lmcache.errors import GeometryError
from lmcache.integration.vllm.views import layer_planes, read_views

LAYERS, BLOCKS, HEADS, TOKENS, CONTENT = 3, 5, 2, 4, 6
SIZES = {"L": LAYERS, "B": BLOCKS, "H": HEADS, "N": TOKENS, "C": CONTENT}


class Tensor:
    """What `views` asks of a torch tensor, over an array."""

    def __init__(self, array, device="cpu", index=None):
        self.array = array
        self.shape = array.shape
        self.device = types.SimpleNamespace(type=device, index=index)

    def element_size(self):
        return self.array.itemsize

    def stride(self):
        return tuple(stride // self.array.itemsize for stride in self.array.strides)

    def data_ptr(self):
        return self.array.__array_interface__["data"][0]


def layers_in(order: str):
    """Return one [B, H, N, C] view per layer into a buffer stored in the given order."""
    buffer = np.arange(np.prod(list(SIZES.values())), dtype=np.float32)
    stored = buffer.reshape([SIZES[name] for name in order])
    logical = stored.transpose([order.index(name) for name in "LBHNC"])
    return [logical[layer] for layer in range(LAYERS)]


def read_block(planes, block: int) -> bytes:
    return b"".join(
        ctypes.string_at(plane.address + block * plane.block_stride_bytes, plane.page_bytes)
        for plane in planes
    )


@pytest.mark.parametrize(
    ("order", "planes_per_layer"),
    [("LBHNC", 1), ("LBNHC", 1), ("BLHNC", 1), ("BLNHC", 1), ("LHBNC", HEADS), ("BHLNC", HEADS)],
)
def test_planes_are_the_blocks(order, planes_per_layer):
    for array in layers_in(order):
        planes = layer_planes(Tensor(array), BLOCKS)
        assert len(planes) == planes_per_layer
        for block in range(BLOCKS):
            held = np.frombuffer(read_block(planes, block), dtype=np.float32)
            assert sorted(held) == sorted(array[block].ravel())
            assert len(held) == array[block].size


@pytest.mark.parametrize("order", ["LBHNC", "LBNHC", "LHBNC"])
def test_kernel_blocks_are_joined(order):
    for array in layers_in(order):
        whole = layer_planes(Tensor(array[:4]), 4)
        joined = layer_planes(Tensor(array[:4]), 2)
        assert len(joined) == len(whole)
        for block in range(2):
            pages = [
                read_block(whole[i : i + 1], 2 * block + half)
                for i in range(len(whole))
                for half in range(2)
            ]
            assert read_block(joined, block) == b"".join(pages)


def test_kernel_blocks_that_do_not_touch_become_planes():
    array = layers_in("BLHNC")[0][:4]
    planes = layer_planes(Tensor(array), 2)
    assert len(planes) == 2
    got = np.frombuffer(read_block(planes, 1), dtype=np.float32)
    assert sorted(got) == sorted(array[2:4].ravel())


def test_views_follow_the_order_of_the_layers():
    arrays = layers_in("LHBNC")
    tensors = {f"layer{i}": Tensor(array) for i, array in enumerate(arrays)}
    views = read_views(tensors, ["layer2", "layer0"], BLOCKS)
    assert views.last_plane == {"layer2": HEADS - 1, "layer0": 2 * HEADS - 1}
    assert views.block_bytes == 2 * HEADS * TOKENS * CONTENT * 4
    assert views.planes[0].address == tensors["layer2"].data_ptr()


def test_pages_do_not_overlap():
    for order in map("".join, itertools.permutations("LBHNC")):
        if order.index("C") != 4:
            continue
        seen: set[int] = set()
        for array in layers_in(order):
            for plane in layer_planes(Tensor(array), BLOCKS):
                for block in range(BLOCKS):
                    start = plane.address + block * plane.block_stride_bytes
                    page = set(range(start, start + plane.page_bytes))
                    assert not page & seen
                    seen |= page


def test_what_is_not_as_declared_is_refused():
    array = layers_in("LBHNC")[0]
    with pytest.raises(GeometryError, match="does not hold 4 blocks"):
        layer_planes(Tensor(array), 4)
    with pytest.raises(GeometryError, match="no KV for layer other"):
        read_views({"layer0": Tensor(array)}, ["other"], BLOCKS)
    with pytest.raises(GeometryError, match="on a xpu device"):
        read_views({"layer0": Tensor(array, "xpu", 0)}, ["layer0"], BLOCKS)
    split = {"layer0": Tensor(array, "cuda", 0), "layer1": Tensor(array, "cuda", 1)}
    with pytest.raises(GeometryError, match="several devices"):
        read_views(split, ["layer0", "layer1"], BLOCKS)
    expanded = np.broadcast_to(array[:, :1], array.shape)  # both heads at one address
    with pytest.raises(GeometryError, match="overlaps"):
        layer_planes(Tensor(expanded), BLOCKS)


def test_views_say_which_gpu_they_are_on():
    arrays = layers_in("LBNHC")
    host = {f"layer{i}": Tensor(array) for i, array in enumerate(arrays)}
    gpu = {f"layer{i}": Tensor(array, "cuda", 3) for i, array in enumerate(arrays)}
    assert read_views(host, host, BLOCKS).cuda_device is None
    views = read_views(gpu, gpu, BLOCKS)
    assert views.cuda_device == 3
    assert views.planes == read_views(host, host, BLOCKS).planes


@pytest.mark.parametrize("order", ["LBNHC", "LBHNC", "BLNHC", "BLHNC"])  # NHD, HND, cross-layer
def test_strides_of_torch_tensors_as_gpu_backends_lay_them_out(order):
    """One buffer of bytes, each layer a strided view of it, as vLLM makes them on a GPU."""
    torch = pytest.importorskip("torch")
    buffer = torch.arange(np.prod(list(SIZES.values())), dtype=torch.float32)
    stored = buffer.reshape([SIZES[name] for name in order])
    logical = stored.permute([order.index(name) for name in "LBHNC"])
    page = HEADS * TOKENS * CONTENT * 4
    stride = page * (LAYERS if order[0] == "B" else 1)
    step = page if order[0] == "B" else page * BLOCKS
    for layer in range(LAYERS):
        planes = layer_planes(logical[layer], BLOCKS)
        assert planes == [(buffer.data_ptr() + layer * step, stride, page)]
