# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench lookup`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmcache.bench.lookup import ENTRIES, MOST_RATIO, MOST_SPREAD, LookupBench, spread
from lmcache.bench.lookup_scene import LookupScene
from lmcache.cli.bench.outcome import Row, print_rows, progress
from lmcache.cli.bench.stopping import ends_cleanly
from lmcache.cli.console import print_json
from lmcache.cli.node import JsonOption
from lmcache.config import available_memory_bytes
from lmcache.errors import OutOfMemoryError


def lookup(
    json: JsonOption = False,
    entries: Annotated[
        int, typer.Option("--entries", min=1000, help="Most chunks to fill the segment with.")
    ] = ENTRIES[-1],
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Look-ups to time at each size.")
    ] = 101,
) -> None:
    """Hash and look up a prompt of 131,072 tokens, against SHA-256 of the same bytes."""
    steps = tuple(10**power for power in range(3, 9) if 10**power <= entries)
    needed, free = LookupScene.memory_bytes(steps[-1]), available_memory_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"--entries = {entries}: so many chunks need {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free"
        )
    with ends_cleanly(), progress() as tell:
        figures = LookupBench(steps, samples=samples).run(tell)
    if json:
        print_json(figures)
    else:
        print_rows(_rows(figures))


def _rows(figures: dict[str, Any]) -> list[Row]:
    ratio, wide = figures["ratio"], spread(figures["by_entries"])
    rows = [
        Row("tokens", f"{figures['tokens']:,}"),
        Row("SHA-256 alone", f"{figures['sha256_us']:.0f} µs"),
    ]
    for point in figures["by_entries"]:
        name = f"look-up among {point['entries']:,} chunks"
        rows.append(Row(name, f"{point['lookup_us']:.0f} µs"))
    for count, time_us in figures["processes"].items():
        rows.append(Row(f"look-up, {count} process(es) at once", f"{time_us:.0f} µs"))
    rows.append(Row("look-up / SHA-256", f"{ratio:.2f}", f"<= {MOST_RATIO}", ratio <= MOST_RATIO))
    target = f"<= {MOST_SPREAD:g}"
    rows.append(Row("slowest / fastest", f"{wide:.2f}", target, wide <= MOST_SPREAD))
    return rows
