# SPDX-License-Identifier: Apache-2.0
"""How fast chunks go to disk and come back, against the disk alone in the same run.

A round writes every chunk under a new key, reads all in order and reads all in random order, each
once by the disk tier (with its checksums, its room and its index) and once raw (bench/disk_raw.py):
the same bytes, in pieces of the same size, with the same depth, in the same folder, past the page
cache, with memory that the processor has just touched (`touch`). The two take turns, and who begins
changes from round to round: a disk that others use is not the same for two minutes. A figure is the
median over the rounds, a ratio the median of the ratios within a round.

The first round is not counted, but for `first_write_gbps`: there, both write into room that was
reserved and never written (the file system notes for each piece that it is data by now), and the
tier makes its slabs. In all others both write where something was before.

The tier is asked for all of an order at once, as it is for a request. Chunks of less than 1 MiB it
reads in the order in which they lie.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lmcache import _native
from lmcache.bench.disk_raw import THREADS, Cost, Raw, RawLoad, make_raw
from lmcache.bench.disk_scene import (
    DEPTH_BYTES,
    DiskScene,
    WorkFolder,
    check_room,
    needed_bytes,
    slot_bytes,
    touch,
)
from lmcache.errors import UnavailableError

# What was promised: ours over raw.
LEAST_RATIO = 0.95
CHECKSUM = "crc32c x3, 64 bit"
ENGINES = {"auto": (), "uring": ("io_uring",), "threads": ("threads",), "all": ()}

_PATTERNS = ("write", "read", "rand_read")
Progress = Callable[[str], None]


def engines_of(choice: str) -> tuple[str, ...]:
    """Return the engines of I/O that `auto`, `uring`, `threads` or `all` means here."""
    refusal = _native.uring_refusal()
    if choice == "uring" and refusal:
        raise UnavailableError(f"--engine = uring: {refusal}")
    there = ("threads",) if refusal else ("io_uring", "threads")
    return ENGINES[choice] or (there if choice == "all" else there[:1])


@dataclass(frozen=True)
class DiskBench:
    """What to measure: `size_bytes` in chunks of each size, with each engine of I/O."""

    folder: Path
    size_bytes: int
    payload_bytes: tuple[int, ...]
    engines: tuple[str, ...]
    rounds: int = 15
    raw: str = "native"  # or "fio"

    def load(self, payload_bytes: int, engine: str, path: Path) -> RawLoad:
        """Return what is moved for one line of the result: a multiple of the threads' number."""
        slot = slot_bytes(payload_bytes)
        chunks = max(THREADS, self.size_bytes // slot // THREADS * THREADS)
        return RawLoad(path, chunks, slot, engine, DEPTH_BYTES)

    @property
    def memory_bytes(self) -> int:
        """Memory that the largest line takes."""
        loads = (self.load(payload, "", self.folder) for payload in self.payload_bytes)
        return max(load.size_bytes for load in loads)

    def run(self, progress: Progress = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench disk --json`."""
        check_room(self.folder, needed_bytes(self.memory_bytes))
        lines = []
        for engine in self.engines:
            for payload in self.payload_bytes:
                title = f"{engine}, chunks of {payload / 2**20:g} MiB: "
                lines.append(self._line(engine, payload, partial(_tell, progress, title)))
        return {
            "folder": str(self.folder),
            "depth_bytes": DEPTH_BYTES,
            "raw_by": lines[0]["raw_by"],
            "figures": lines,
        }

    def _line(self, engine: str, payload: int, progress: Progress) -> dict[str, Any]:
        with WorkFolder(self.folder) as place:
            load = self.load(payload, engine, place / "raw")
            with DiskScene(place / "volume", load, payload) as scene:
                raw = make_raw(self.raw, load, scene.memory)
                progress("first round")
                first = _round(scene, raw, load.chunks, ours_first=False)
                rounds = []
                for number in range(self.rounds):
                    progress(f"round {number + 1} of {self.rounds}")
                    rounds.append(_round(scene, raw, load.chunks, ours_first=number % 2 == 1))
        gigabytes = load.size_bytes / 1e9
        return {
            "engine": engine,
            "chunk_bytes": payload,
            **_figures(rounds, gigabytes),
            "first_write_gbps": round(gigabytes / first["write"][1].seconds, 3),
            "raw_first_write_gbps": round(gigabytes / first["write"][0].seconds, 3),
            "checksum": CHECKSUM,
            "moved_bytes": load.size_bytes,
            "rounds": self.rounds,
            "raw_by": raw.name,
        }


def _tell(progress: Progress, title: str, text: str) -> None:
    progress(title + text)


def _round(scene: DiskScene, raw: Raw, chunks: int, ours_first: bool) -> dict[str, Any]:
    """Return the cost of each pattern: raw, ours."""
    scene.forget()
    in_order = list(range(chunks))
    shuffled = random.sample(in_order, chunks)
    steps: dict[str, tuple[Callable[[], Cost], Callable[[], Cost]]] = {
        "write": (raw.write, scene.write),
        "read": (lambda: raw.read(in_order), lambda: scene.read(in_order)),
        "rand_read": (lambda: raw.read(shuffled), lambda: scene.read(shuffled)),
    }
    costs = {}
    for pattern, turns in steps.items():
        pair = {}
        for number in (1, 0) if ours_first else (0, 1):
            touch(scene.memory)
            pair[number] = turns[number]()
        costs[pattern] = (pair[0], pair[1])
    return costs


def _figures(rounds: list[dict[str, Any]], gigabytes: float) -> dict[str, float]:
    out = {}
    for pattern in _PATTERNS:
        raws, owns = zip(*(costs[pattern] for costs in rounds), strict=True)
        for prefix, costs in (("", owns), ("raw_", raws)):
            seconds = statistics.median(cost.seconds for cost in costs)
            out[f"{prefix}{pattern}_gbps"] = round(gigabytes / seconds, 3)
        ratios = [raw.seconds / own.seconds for raw, own in zip(raws, owns, strict=True)]
        out[f"{pattern}_ratio"] = round(statistics.median(ratios), 3)
        if pattern == "rand_read":
            continue
        for prefix, costs in (("", owns), ("raw_", raws)):
            cpu_s = statistics.median(cost.cpu_s for cost in costs)
            out[f"{prefix}cpu_s_per_gb_{pattern}"] = round(cpu_s / gigabytes, 4)
    return out
