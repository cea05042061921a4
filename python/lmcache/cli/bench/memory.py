# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench memory`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmcache.bench.memory import CHUNK_BYTES, LEAST_RATIO, MemoryBench
from lmcache.cli.bench.outcome import Row, print_rows, progress
from lmcache.cli.bench.stopping import ends_cleanly
from lmcache.cli.console import print_json
from lmcache.cli.node import JsonOption
from lmcache.config import available_memory_bytes
from lmcache.errors import OutOfMemoryError

# The pool, its plain copy, and the segment, which is a little larger.
_BUFFERS = 3.3


def memory(
    json: JsonOption = False,
    size: Annotated[
        float, typer.Option("--size", min=0.01, help="Size of each of the three buffers, in GB.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to measure.")] = 9,
    threads: Annotated[
        int,
        typer.Option("--threads", min=0, max=256, help="0: one per CPU, 4 at most."),
    ] = 0,
) -> None:
    """Store and load chunks of 4 MB, against memcpy of the same bytes with as many threads."""
    pool_bytes = max(CHUNK_BYTES, int(size * 1e9))
    free = available_memory_bytes()
    if pool_bytes * _BUFFERS > free:
        raise OutOfMemoryError(
            f"--size = {size:g}: three buffers of that size need {pool_bytes * _BUFFERS / 1e9:.1f} "
            f"GB, {free / 1e9:.1f} GB are free"
        )
    with ends_cleanly(), progress() as tell:
        figures = MemoryBench(pool_bytes, rounds, threads).run(tell)
    if json:
        print_json(figures)
    else:
        print_rows(_rows(figures))


def _rows(figures: dict[str, Any]) -> list[Row]:
    target = f">= {LEAST_RATIO}"
    rows = [Row("threads", str(figures["threads"]))]
    rows += [
        Row(name, f"{figures[f'{name}_gbps']:.2f} GB/s") for name in ("memcpy", "store", "load")
    ]
    for name in ("store", "load"):
        ratio = figures[f"{name}_ratio"]
        rows.append(Row(f"{name} / memcpy", f"{ratio:.3f}", target, ratio >= LEAST_RATIO))
    return rows
