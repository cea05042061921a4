# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench gpu`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmcache import _native
from lmcache.errors import UnavailableError

SIDE = {
    "limit_gbps": 50.0,
    "rates": [{"entry_bytes": 2048, "engine_gbps": 1.0, "kernel_gbps": 20.0}],
    "engine_from_bytes": 65536,
}
FIGURES = {
    "device": "A device",
    "driver_version": 12040,
    "batch_copies": False,
    "kernels": True,
    "store": SIDE,
    "load": {**SIDE, "engine_from_bytes": 2**64 - 1},
    "inside": {**SIDE, "limit_gbps": 1500.0},
}


def test_without_a_gpu_it_says_so_in_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: int) -> None:
        raise UnavailableError("no CUDA driver: libcuda.so.1 is not there")

    monkeypatch.setattr(_native, "measure_gpu", refuse)
    done = run("bench", "gpu", "--json")
    assert done.status == 3
    assert done.out == ""
    assert done.err == "no GPU to measure: no CUDA driver: libcuda.so.1 is not there\n"


def test_it_measures(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "measure_gpu", lambda _device: FIGURES)
    assert json.loads(run("bench", "gpu", "--json").out) == FIGURES
    out = run("bench", "gpu").out
    assert "CUDA 12.4" in out
    assert "1.00 / 20.00 GB/s" in out
    assert "from 65536 bytes" in out
    assert "never" in out
    assert "1500.00 GB/s" in out


def test_this_machine_has_one_or_says_why_not(run: Any) -> None:
    done = run("bench", "gpu", "--json")
    if done.status == 0:
        assert json.loads(done.out)["load"]["limit_gbps"] > 0
    else:
        assert done.status == 3
        assert done.out == ""
        assert done.err.startswith("no GPU to measure: ")
        assert done.err.count("\n") == 1
