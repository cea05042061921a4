# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench disk`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lmcache.bench.disk import ENGINES, LEAST_RATIO, DiskBench, engines_of
from lmcache.bench.disk_restart import MOST_ATTACH_MS, MOST_RECORDS, RestartBench
from lmcache.cli.bench.outcome import Row, print_rows, progress
from lmcache.cli.bench.stopping import ends_cleanly
from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption
from lmcache.config import available_memory_bytes
from lmcache.errors import InvalidArgumentError, OutOfMemoryError, UnavailableError

_UNITS = {
    "": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_PATTERNS = {"write": "write", "read": "read", "rand_read": "read, random"}


def disk(
    path: Annotated[
        Path, typer.Option("--path", help="Folder on the disk to measure.", show_default=False)
    ],
    json: JsonOption = False,
    size: Annotated[
        str, typer.Option("--size", help="What is moved at once: bytes, or e.g. 500MB, 2GB.")
    ] = "1GB",
    chunk: Annotated[str, typer.Option("--chunk", help="Sizes of chunks, in MiB.")] = "1,4,32",
    engine: Annotated[
        str, typer.Option("--engine", help="Engine of I/O: auto, uring, threads or all.")
    ] = "auto",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to measure.")] = 15,
    raw: Annotated[
        str, typer.Option("--raw", help="What measures the disk alone: native or fio.")
    ] = "native",
    restart: Annotated[
        int | None,
        typer.Option("--restart", min=1, help="Instead: time opening a cache of so many chunks."),
    ] = None,
) -> None:
    """Write and read chunks, against the disk alone; or time a restart. Leaves nothing behind."""
    folder = Path(str(path).removeprefix("file:")).absolute()
    if not folder.is_dir():
        why = "is no folder" if folder.exists() else "there is no such folder"
        raise UnavailableError(f"--path = {path}: {why}")
    with ends_cleanly():
        if restart is not None:
            _restart(RestartBench(folder, restart), json)
        else:
            _transfer(_bench(folder, size, chunk, engine, rounds, raw), json)


def _bench(folder: Path, size: str, chunk: str, engine: str, rounds: int, raw: str) -> DiskBench:
    for name, value, known in (("engine", engine, tuple(ENGINES)), ("raw", raw, ("native", "fio"))):
        if value not in known:
            raise InvalidArgumentError(f"--{name} = {value}: {', '.join(known)} are there")
    bench = DiskBench(
        folder, size_in_bytes(size), chunk_sizes(chunk), engines_of(engine), rounds, raw
    )
    needed, free = bench.memory_bytes, available_memory_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"--size = {size}: {needed / 1e9:.1f} GB of memory are needed, "
            f"{free / 1e9:.1f} GB are free"
        )
    return bench


def size_in_bytes(text: str) -> int:
    """Return a number of bytes: "1000000", "500MB", "2 GiB"."""
    match = re.fullmatch(r"([0-9.]+) ?([kmgt]i?b)?", text.strip().lower())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if not match or number <= 0:
        raise InvalidArgumentError(f"--size = {text}: is no size, such as 500MB or 2GB")
    return int(number * _UNITS[match[2] or ""])


def chunk_sizes(text: str) -> tuple[int, ...]:
    """Return sizes in bytes out of MiB, separated by commas; 0.25 is allowed."""
    try:
        sizes = tuple(int(float(part) * 2**20) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(2**16 <= size <= 2**30 for size in sizes):
        raise InvalidArgumentError(
            f"--chunk = {text}: must be MiB as plain numbers, 0.0625 to 1024, such as 1,4,32"
        )
    return sizes


def _restart(bench: RestartBench, json: bool) -> None:
    with progress() as tell:
        figures = bench.run(tell)
    if json:
        print_json(figures)
        return
    found, records = figures["found"], figures["records"]
    print_rows(
        [
            Row("chunks", f"{records:,}"),
            Row("index", f"{figures['index_bytes'] / 1e6:.1f} MB"),
            _attach_row(records, figures["attach_ms"]),
            Row("chunks per second", f"{figures['chunks_per_s']:,}"),
            Row("finding all of them", f"{figures['find_ms']:.1f} ms"),
            Row("found", f"{found:,}", f"{records:,}", found == records),
        ]
    )


def _attach_row(records: int, attach_ms: float) -> Row:
    # What was promised is the time of so many chunks; more of them may take longer.
    promised = records <= MOST_RECORDS
    return Row(
        "attach",
        f"{attach_ms:.1f} ms",
        f"<= {MOST_ATTACH_MS:.0f} ms" if promised else "",
        attach_ms <= MOST_ATTACH_MS if promised else None,
    )


def _transfer(bench: DiskBench, json: bool) -> None:
    with progress() as tell:
        figures = bench.run(tell)
    if json:
        print_json(figures)
        return
    out = console()
    out.print(_table(figures["figures"]))
    out.print(
        f"[dim]GB/s, and in brackets the disk alone, measured by {figures['raw_by']}. The ratio "
        f"is to reach {LEAST_RATIO}. CPU: seconds per GB.[/]",
        soft_wrap=True,
    )


def _table(lines: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for heading in ("engine", "chunk"):
        table.add_column(heading, header_style="dim")
    for heading in (*_PATTERNS.values(), "CPU write", "CPU read"):
        table.add_column(heading, header_style="dim", justify="right")
    for line in lines:
        table.add_row(
            escape(line["engine"]),
            f"{line['chunk_bytes'] / 2**20:g} MiB",
            *(_speed(line, pattern) for pattern in _PATTERNS),
            *(_cpu(line, pattern) for pattern in ("write", "read")),
        )
    return table


def _speed(line: dict[str, Any], pattern: str) -> str:
    ours, raw = line[f"{pattern}_gbps"], line[f"raw_{pattern}_gbps"]
    ratio = line[f"{pattern}_ratio"]
    style = "green" if ratio >= LEAST_RATIO else "bold red"
    return f"{ours:.2f} ({raw:.2f}) [{style}]{ratio:.2f}[/]"


def _cpu(line: dict[str, Any], pattern: str) -> str:
    name = f"cpu_s_per_gb_{pattern}"
    return f"{line[name]:.3f} ({line[f'raw_{name}']:.3f})"
