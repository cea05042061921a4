# SPDX-License-Identifier: Apache-2.0
"""`lmcache gc`: remove the segments whose processes are gone."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from lmcache import _native
from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption, gigabytes, listed_segments
from lmcache.config import load_config
from lmcache.errors import LMCacheError

app = typer.Typer(add_completion=False)


@app.command(help="Remove the segments whose processes are gone.")
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also what this version cannot read, and so cannot know to be unused."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look in shared memory and in the folder of the configured segment."""
    configured = load_config(log_warnings=False).segment_place.directory
    outcomes = [_collect(info, dry_run, force) for info in listed_segments(configured)]
    if json:
        print_json({"dry_run": dry_run, "segments": outcomes})
        return
    out = console()
    for outcome in outcomes:
        style = "green" if outcome["removed"] else "dim"
        size = gigabytes(outcome["bytes"])
        line = f"[{style}]{escape(outcome['path'])}[/] ({size}): {escape(outcome['why'])}"
        out.print(line, soft_wrap=True)
    freed = sum(outcome["bytes"] for outcome in outcomes if outcome["removed"])
    verb = "would free" if dry_run else "freed"
    out.print(f"{verb} {gigabytes(freed)}" if outcomes else "there are no segments")


def _collect(info: dict[str, Any], dry_run: bool, force: bool) -> dict[str, Any]:
    """Remove a segment if nobody uses it; return what was done, and why."""
    removed, why = False, ""
    if info["unreadable"] and not force:
        why = f"kept, --force removes it: {info['unreadable']}"
    elif info["processes"]:
        why = f"kept: used by {info['processes']} process(es)"
    elif dry_run:
        removed, why = True, "would be removed"
    else:
        try:
            removed = _native.remove_segment(info["path"], force)
            why = "removed" if removed else "kept: a process has come"
        except LMCacheError as error:
            why = f"kept: {error}"
    return {
        "path": info["path"],
        "name": info["name"],
        "bytes": info["allocated_bytes"],
        "processes": info["processes"],
        "removed": removed,
        "why": why,
    }
