# SPDX-License-Identifier: Apache-2.0
"""Where an array lies and what it is, whoever made it."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from lmcache.engine.arrays import host_array
from lmcache.errors import GeometryError


def test_numpy_arrays_are_read_as_they_are() -> None:
    made = np.zeros((2, 2, 5, 3, 4), np.float16)
    read = host_array(made, "kv")
    assert read.address == made.ctypes.data
    assert read.shape == (2, 2, 5, 3, 4)
    assert read.dtype == "float16"
    assert read.contiguous
    assert not read.read_only
    assert read.owner is made


@pytest.mark.parametrize("cut", [np.s_[:, :, 1:], np.s_[::2], np.s_[..., ::2]])
def test_gaps_are_seen(cut: Any) -> None:
    assert not host_array(np.zeros((4, 2, 5, 3, 4), np.float32)[cut], "kv").contiguous


def test_an_axis_of_length_one_has_no_gap() -> None:
    assert host_array(np.zeros((4, 2, 5, 3, 4))[:1], "kv").contiguous


def test_read_only_and_foreign_byte_order_are_seen() -> None:
    fixed = np.zeros(4, np.float32)
    fixed.flags.writeable = False
    assert host_array(fixed, "kv").read_only
    assert host_array(np.zeros(4, ">f4"), "kv").dtype == ">f4"


def test_the_buffer_protocol_will_do() -> None:
    numbers = array.array("f", range(6))
    read = host_array(memoryview(numbers).cast("B").cast("f", (2, 3)), "kv")
    assert (read.address, read.shape) == (numbers.buffer_info()[0], (2, 3))
    assert (read.dtype, read.contiguous) == ("float32", True)
    assert host_array(bytes(8), "kv").read_only


@pytest.mark.parametrize("value", [None, 1, "text", [1.0], {"a": 1}])
def test_what_is_no_array(value: Any) -> None:
    with pytest.raises(GeometryError, match=rf"out is a {type(value).__name__}: must be an array"):
        host_array(value, "out")


def test_torch_tensors_are_read_where_they_lie() -> None:
    torch = pytest.importorskip("torch")
    made = torch.zeros(2, 2, 5, 3, 4, dtype=torch.bfloat16)
    read = host_array(made, "kv")
    assert read.address == made.data_ptr()
    assert (read.shape, read.dtype) == (tuple(made.shape), "bfloat16")
    assert read.contiguous
    assert not host_array(made.transpose(2, 3), "kv").contiguous
    assert host_array(made[1:], "kv").address == made[1:].data_ptr()


def test_tensors_that_lend_nothing_are_told_what_to_do() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(GeometryError, match=r"kv does not lend its memory: .*detach\(\)"):
        host_array(torch.zeros(2, requires_grad=True), "kv")
    with pytest.raises(GeometryError, match="kv does not lend its memory"):
        host_array(torch.zeros(2, device="meta"), "kv")


def test_other_devices_are_named() -> None:
    class OnGpu:
        device = "cuda:1"

        def __dlpack__(self, **_: Any) -> None:
            raise AssertionError("not asked for")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 1)

    with pytest.raises(GeometryError, match=r"kv is on cuda:1: must be in host memory"):
        host_array(OnGpu(), "kv")
