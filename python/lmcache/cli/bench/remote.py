# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench remote`, and `lmcache remote bench`: the same."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from lmcache.bench.remote import (
    LEAST_BYTES_PER_S,
    LEAST_OVER_REDIS_PY,
    LEAST_RATIO,
    RemoteBench,
    moved_bytes,
)
from lmcache.bench.remote_clients import LEFT_BEHIND_S
from lmcache.cli.bench.disk import chunk_sizes, size_in_bytes
from lmcache.cli.bench.outcome import progress
from lmcache.cli.bench.stopping import ends_cleanly
from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption
from lmcache.cli.store import UrlOption, open_store, store_login, store_url
from lmcache.config import available_memory_bytes
from lmcache.errors import OutOfMemoryError
from lmcache.remote.opening import is_python_remote
from lmcache.remote.service import RemoteService

_MOVE = ("loopback", "ratio", "at most")
_COLUMNS = ("set", *_MOVE, "get", *_MOVE, "redis-py", "ratio", "lookup")


def remote(
    url: UrlOption = None,
    json: JsonOption = False,
    size: Annotated[str, typer.Option("--size", help="What is moved at once.")] = "256MB",
    chunk: Annotated[str, typer.Option("--chunk", help="Sizes of chunks, in MiB.")] = "1,4,32",
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=64, help="Connections to the store.")
    ] = 4,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to measure.")] = 5,
) -> None:
    """Send and fetch chunks, against loopback alone and redis-py. Removes what it wrote."""
    user, password = store_login()
    address = store_url(url)
    native = not is_python_remote(address)
    size_bytes, payload_bytes = size_in_bytes(size), chunk_sizes(chunk)
    moved = max(moved_bytes(size_bytes, payload) for payload in payload_bytes)
    services: list[RemoteService] = []

    def attach(memory: memoryview) -> None:
        for service in services:
            service.attach(memory)

    bench = RemoteBench(
        url=address,
        open_store=lambda count, full: open_store(
            url,
            connections=count,
            overwrites=full,
            transfer_s=moved / LEAST_BYTES_PER_S,
            # Of some clients in Python it would change what is measured.
            ttl_s=LEFT_BEHIND_S if native else 0,
            told=services.append,
        ),
        loopback=native,
        attach=attach,
        size_bytes=size_bytes,
        payload_bytes=payload_bytes,
        connections=connections,
        rounds=rounds,
        user=user,
        password=password,
    )
    needed, free = bench.memory_bytes, available_memory_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"--size = {size}, --chunk = {chunk}: {needed / 1e9:.1f} GB of memory are needed, "
            f"beside what the store takes, {free / 1e9:.1f} GB are free"
        )
    with ends_cleanly(), progress() as tell:
        report = bench.run(tell)
    if json:
        print_json(report)
        return
    console().print(_table(report))


def _table(report: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 1), title=f"{report['url']}: {report['server']}")
    table.add_column("chunk", style="dim")
    rows = [_cells(line) for line in report["figures"]]
    # Only what applies to this kind of store.
    shown = [i for i in range(len(_COLUMNS)) if any(row[i] != "-" for row in rows)]
    for i in shown:
        table.add_column(_COLUMNS[i], justify="right", header_style="dim")
    for line, row in zip(report["figures"], rows, strict=True):
        table.add_row(f"{line['chunk_bytes'] / 2**20:g} MiB", *(row[i] for i in shown))
    return table


def _cells(line: dict[str, Any]) -> list[str]:
    return [
        *(_rate(line[name]) for name in ("set_gbps", "raw_send_gbps")),
        _verdict(line["set_ratio"], LEAST_RATIO),
        _ratio(line["set_ratio_limit"]),
        *(_rate(line[name]) for name in ("get_gbps", "raw_recv_gbps")),
        _verdict(line["get_ratio"], LEAST_RATIO),
        _ratio(line["get_ratio_limit"]),
        _rate(line["redispy_get_gbps"]),
        _verdict(line["get_over_redispy"], LEAST_OVER_REDIS_PY),
        f"{line['exists_us_per_key']:.2f} us",
    ]


def _rate(gigabytes_per_s: float | None) -> str:
    return "-" if gigabytes_per_s is None else f"{gigabytes_per_s:.2f} GB/s"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _verdict(ratio: float | None, least: float) -> str:
    if ratio is None:
        return "-"
    return f"[{'green' if ratio >= least else 'bold red'}]{ratio:.2f}[/]"
