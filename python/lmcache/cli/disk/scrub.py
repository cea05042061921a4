# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk scrub`: read every chunk and check its sums."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmcache import _native
from lmcache.cli.console import console, print_json
from lmcache.cli.disk.folders import PathArgument, chosen_folders, open_existing, written
from lmcache.cli.node import JsonOption, amount, counted, gigabytes

DAMAGED = 1
_CORRUPT = "chunks were not what was written: they are forgotten"
_UNREADABLE = "chunks could not be read: the device reports errors"
_RECORDS = "records of the index were damaged: their chunks are forgotten"
INTERRUPTED = 130


def scrub(path: PathArgument = None, json: JsonOption = False) -> None:
    """Read and check every chunk; what is damaged is forgotten, and told of once.

    Exit status 1 if there was anything.
    """
    folders = chosen_folders(path)
    volume = open_existing(folders)
    report = {"folders": folders, **_check(volume)}
    if json:
        print_json(report)
    else:
        _tell(report)
    if not report["complete"]:
        raise typer.Exit(INTERRUPTED)
    if any(report[name] for name in ("corrupt", "unreadable", "damaged_records")):
        raise typer.Exit(DAMAGED)


class _Interruption:
    """Ctrl-C as a question instead of an exception, which must not fly through native code."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> _Interruption:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def _check(volume: _native.DiskVolume) -> dict[str, Any]:
    bar = Progress(
        TextColumn("checking"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("chunks, {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    started = time.monotonic()
    total = volume.status()["chunks"]
    with _Interruption() as stop, bar:
        task = bar.add_task("", total=total, speed="")

        def tell(done: int, of: int, size_bytes: int) -> bool:
            nonlocal total
            total = of
            speed = size_bytes / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=done, total=of, speed=f"{gigabytes(speed)}/s")
            return not stop.asked

        report = volume.scrub(tell)
    return {
        "complete": bool(report["complete"]),
        "chunks": report["chunks"],
        "total_chunks": total,
        "bytes": report["bytes"],
        "seconds": round(time.monotonic() - started, 3),
        "corrupt": report["corrupt"],
        "unreadable": report["unreadable"],
        "gone": report["gone"],
        "damaged_records": report["damaged_records"],
        "damage": report["damage"],
    }


def _tell(report: dict[str, Any]) -> None:
    out = console()
    checked = f"{counted(report['chunks'], 'chunk')}, {gigabytes(report['bytes'])}"
    if not report["complete"]:
        out.print(f"[yellow]stopped[/] after {checked} of {amount(report['total_chunks'])} chunks")
    lines = (
        ("corrupt", "chunk was not what was written: it is forgotten", _CORRUPT),
        ("unreadable", "chunk could not be read: the device reports errors", _UNREADABLE),
        ("damaged_records", "record of the index was damaged: its chunk is forgotten", _RECORDS),
    )
    damage = False
    for name, one, several in lines:
        if report[name]:
            damage = True
            what = one if report[name] == 1 else several
            out.print(f"[bold red]{amount(report[name])}[/] {what}", soft_wrap=True)
    for place in report["damage"]:
        where = f"{place['folder']}/slab-{place['slab']}, byte {place['offset']}"
        out.print(f"  {escape(where)}: {place['problem']}", soft_wrap=True)
    if more := report["corrupt"] + report["unreadable"] - len(report["damage"]):
        out.print(f"  and {more} more")
    if report["gone"]:
        out.print(f"{counted(report['gone'], 'chunk')} evicted meanwhile")
    if not damage and report["complete"]:
        place = escape(written(report["folders"]))
        out.print(f"[green]{place}: all right[/], {checked}", soft_wrap=True)
