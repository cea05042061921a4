# SPDX-License-Identifier: Apache-2.0
"""The disk benchmark moves what it says, and leaves nothing behind."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from lmcache import _native
from lmcache.bench import disk
from lmcache.bench.disk import DiskBench, engines_of
from lmcache.bench.disk_raw import Cost
from lmcache.errors import OutOfMemoryError

MIB = 1 << 20


@pytest.mark.parametrize("engine", ["io_uring", "threads"])
def test_figures(tmp_path: Path, engine: str) -> None:
    if engine == "io_uring" and (why := _native.uring_refusal()):
        pytest.skip(why)
    told: list[str] = []
    found = DiskBench(tmp_path, 10 * MIB, (MIB,), (engine,), rounds=2).run(told.append)
    (line,) = found["figures"]
    assert (line["engine"], line["chunk_bytes"], line["rounds"]) == (engine, MIB, 2)
    assert line["moved_bytes"] == 8 * (MIB + 4096)  # a multiple of the threads' number
    assert line["checksum"] == "crc32c x3, 64 bit"
    for pattern in ("write", "read", "rand_read"):
        assert all(line[f"{p}{pattern}_gbps"] > 0 for p in ("", "raw_"))
        assert 0.01 < line[f"{pattern}_ratio"] < 100
    for pattern in ("write", "read"):
        assert all(line[f"{p}cpu_s_per_gb_{pattern}"] >= 0 for p in ("", "raw_"))
    assert line["first_write_gbps"] > 0
    assert found["raw_by"] == "native"
    assert told[-1].endswith("round 2 of 2")
    assert list(tmp_path.iterdir()) == []


def test_a_ratio_is_that_within_a_round() -> None:
    def costs(raw: float, own: float) -> dict[str, tuple[Cost, Cost]]:
        pair = (Cost(raw, 1.0), Cost(own, 2.0))
        return {"write": pair, "read": pair, "rand_read": pair}

    rounds = [costs(1, 2), costs(10, 20), costs(100, 100)]
    figures = disk._figures(rounds, 2.0)
    assert figures["write_ratio"] == statistics.median([0.5, 0.5, 1.0])
    assert figures["raw_write_gbps"] == 0.2
    assert figures["cpu_s_per_gb_write"] == 1.0


@pytest.mark.parametrize("ours_first", [False, True])
def test_memory_is_touched_before_every_turn(monkeypatch, ours_first: bool) -> None:
    events: list[str] = []

    class Recorder:
        memory = None

        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.cost = name, Cost(seconds, seconds)

        def forget(self) -> None:
            pass

        def write(self) -> Cost:
            events.append(f"{self.name} write")
            return self.cost

        def read(self, order: list[int]) -> Cost:
            assert sorted(order) == [0, 1, 2]
            events.append(f"{self.name} read")
            return self.cost

    monkeypatch.setattr(disk, "touch", lambda _memory: events.append("touch"))
    costs = disk._round(Recorder("our", 2), Recorder("raw", 1), 3, ours_first)
    first, second = ("our", "raw") if ours_first else ("raw", "our")
    assert events[:4] == ["touch", f"{first} write", "touch", f"{second} write"]
    assert events[4:] == ["touch", f"{first} read", "touch", f"{second} read"] * 2
    assert all((raw.seconds, own.seconds) == (1, 2) for raw, own in costs.values())


def test_engines() -> None:
    there = engines_of("all")
    assert engines_of("auto") == there[:1]
    assert engines_of("threads") == ("threads",)
    assert there[-1] == "threads"


def test_a_disk_without_room(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="are needed for the measurement"):
        DiskBench(tmp_path, 10**15, (MIB,), ("threads",)).run()
    assert list(tmp_path.iterdir()) == []
