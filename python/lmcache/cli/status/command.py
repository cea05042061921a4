# SPDX-License-Identifier: Apache-2.0
"""The command: print the report once, or again and again."""

from __future__ import annotations

import json as json_text
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape

from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption, SegmentOption, chosen_path, listed_segments
from lmcache.cli.status.report import segment_report
from lmcache.cli.status.tables import render
from lmcache.errors import UnavailableError

app = typer.Typer(add_completion=False)


@app.command(help="Show what the segment of this node holds, and who uses it.")
def status(
    segment: SegmentOption = None,
    json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Exit status 1 if there is no such segment."""
    path = str(chosen_path(segment))
    try:
        report = segment_report(path)
    except UnavailableError:
        _tell_missing(path, json)
        raise typer.Exit(1) from None
    if watch:
        _watch(path, json)
    elif json:
        print_json({"exists": True, **report})
    else:
        console().print(render(report))


def _tell_missing(path: str, json: bool) -> None:
    others = [info["path"] for info in listed_segments(Path(path).parent)]
    if json:
        print_json({"exists": False, "path": path, "others": others})
        return
    out = console()
    out.print(f"There is no segment {escape(path)}: no engine uses it, or it has not started yet.")
    out.print(
        "The first engine makes it: `LMCacheEngine()` in Python, or vLLM with the cache switched "
        "on (README).",
        soft_wrap=True,
    )
    for other in others:
        out.print(f"There is [bold]{escape(other)}[/]: `lmcache status --segment {escape(other)}`")


def _watch(path: str, json: bool, pause_s: float = 1.0) -> None:
    try:
        if json:
            while True:
                _print_line({"exists": True, **segment_report(path)})
                time.sleep(pause_s)
        with Live(render(segment_report(path)), console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(pause_s)
                live.update(render(segment_report(path)), refresh=True)
    except UnavailableError:  # the last process left and took it along
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print_line(report: dict[str, Any]) -> None:
    sys.stdout.write(json_text.dumps(report, ensure_ascii=False) + "\n")
    sys.stdout.flush()
