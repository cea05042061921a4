# SPDX-License-Identifier: Apache-2.0
"""The disk alone, by fio and by the engine of I/O."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmcache.bench.disk_raw import FioRaw, NativeRaw, RawLoad, cost_of, make_raw
from lmcache.bench.disk_scene import shared_memory
from lmcache.errors import LMCacheError, UnavailableError

MIB = 1 << 20


def load_in(folder: Path, engine: str = "threads") -> RawLoad:
    return RawLoad(folder / "raw", 8, MIB, engine, 32 * MIB)


def test_native_moves_the_bytes(tmp_path: Path) -> None:
    load = load_in(tmp_path)
    memory = shared_memory(load.size_bytes)
    before = memory[:]
    raw = make_raw("native", load, memory)
    assert isinstance(raw, NativeRaw)
    assert raw.write().seconds > 0
    assert load.path.read_bytes() == before
    memory[:] = bytes(load.size_bytes)
    order = [7, 0, 1, 2, 3, 4, 5, 6]
    assert raw.read(order).cpu_s >= 0
    assert memory[:MIB] == before[7 * MIB :]
    assert memory[MIB : 2 * MIB] == before[:MIB]


@pytest.mark.parametrize("engine", ["io_uring", "threads"])
def test_fio_moves_as_many(tmp_path: Path, engine: str) -> None:
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    load = load_in(tmp_path, engine)
    raw = make_raw("fio", load, shared_memory(MIB))
    assert isinstance(raw, FioRaw)
    for cost in (raw.write(), raw.read(list(range(8))), raw.read(list(range(8))[::-1])):
        assert cost.seconds > 0
    assert load.path.stat().st_size == load.size_bytes


def test_no_fio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no program fio"):
        make_raw("fio", load_in(tmp_path), shared_memory(MIB))


def test_what_fio_says() -> None:
    moved = {"io_bytes": 2000, "bw_bytes": 1000}
    job = {
        "read": {"io_bytes": 0, "bw_bytes": 0},
        "write": moved,
        "usr_cpu": 5.0,
        "sys_cpu": 20.0,
        "job_runtime": 2000,
    }
    cost = cost_of({"jobs": [job]}, 2000)
    assert (cost.seconds, cost.cpu_s) == (2.0, 0.5)
    with pytest.raises(LMCacheError, match="2000 bytes instead of 3000"):
        cost_of({"jobs": [job]}, 3000)
