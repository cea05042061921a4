# SPDX-License-Identifier: Apache-2.0
"""`lmcache gc`: remove the segments whose processes are gone.

Also what processes shared about a disk cache: its index on disk is complete without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape

from lmcache import _native
from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption, gigabytes, listed_disk_directories, listed_segments
from lmcache.config import load_config
from lmcache.errors import LMCacheError

app = typer.Typer(add_completion=False)


@app.command(help="Remove what is left in shared memory of processes that are gone.")
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
    segments = [
        _collect(info, dry_run, force, _native.remove_segment)
        for info in listed_segments(configured)
    ]
    directories = [
        _collect(info, dry_run, force, _native.remove_disk_directory)
        for info in listed_disk_directories()
    ]
    if json:
        print_json({"dry_run": dry_run, "segments": segments, "disk_directories": directories})
        return
    out = console()
    outcomes = segments + directories
    for outcome in outcomes:
        style = "green" if outcome["removed"] else "dim"
        size = gigabytes(outcome["bytes"])
        line = f"[{style}]{escape(outcome['path'])}[/] ({size}): {escape(outcome['why'])}"
        out.print(line, soft_wrap=True)
    freed = sum(outcome["bytes"] for outcome in outcomes if outcome["removed"])
    verb = "would free" if dry_run else "freed"
    out.print(f"{verb} {gigabytes(freed)}" if outcomes else "there are no segments")


def _collect(
    info: dict[str, Any], dry_run: bool, force: bool, remove: Callable[[str, bool], bool]
) -> dict[str, Any]:
    """Remove a segment or a disk cache's directory if nobody uses it; return what was done."""
    removed, why = False, ""
    if info["unreadable"] and not force:
        why = f"kept, --force removes it: {info['unreadable']}"
    elif info["processes"]:
        why = f"kept: used by {info['processes']} process(es)"
    elif dry_run:
        removed, why = True, "would be removed"
    else:
        try:
            removed = remove(info["path"], force)
            why = "removed" if removed else "kept: a process has come"
        except LMCacheError as error:
            why = f"kept: {error}"
    return {
        "path": info["path"],
        **{name: info[name] for name in ("name", "folders") if name in info},
        "bytes": info["allocated_bytes"],
        "processes": info["processes"],
        "removed": removed,
        "why": why,
    }
