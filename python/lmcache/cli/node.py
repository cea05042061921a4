# SPDX-License-Identifier: Apache-2.0
"""Which segment a command is about, and how to write what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lmcache import _native
from lmcache.config import SegmentPlace, load_config, segment_place
from lmcache.config.segment import SHARED_MEMORY_DIRECTORY
from lmcache.errors import ConfigError, UnavailableError
from lmcache.observe.node_segment import segment_path

SegmentOption = Annotated[
    str | None,
    typer.Option(
        "--segment",
        help="A name, or the path of its folder and a name; otherwise the configured one.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def chosen_place(segment: str | None) -> SegmentPlace:
    """Return the place that `--segment` or, without it, the configuration names.

    A path of a segment's file, as other commands print it, is understood too.
    """
    if segment is None:
        return load_config(log_warnings=False).segment_place
    path = Path(segment)
    if path.is_file() and path.name.startswith("lmcache-"):
        return SegmentPlace(path.name.split("-", 2)[-1], str(path.parent), keep=True)
    try:
        return segment_place(segment)
    except ValueError:
        raise ConfigError(f'--segment = "{segment}": is no name of a segment') from None


def chosen_path(segment: str | None) -> Path:
    """Return the file of the chosen segment, whether it is there or not."""
    path = segment_path(chosen_place(segment))
    if path is None:
        raise UnavailableError(
            "a private segment is that of one process and cannot be seen from outside: "
            "name another one with --segment"
        )
    return Path(path)


def listed_segments(*folders: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the segments of this user in shared memory and in these folders."""
    for folder in sorted({SHARED_MEMORY_DIRECTORY, *map(str, folders)}):
        if Path(folder).is_dir():
            yield from _native.list_segments(folder)


def listed_disk_directories() -> Iterator[dict[str, Any]]:
    """Yield what processes of this user share about disk caches, in shared memory."""
    if Path(SHARED_MEMORY_DIRECTORY).is_dir():
        yield from _native.list_disk_directories(SHARED_MEMORY_DIRECTORY)


def gigabytes(size_bytes: float) -> str:
    """Write a size as people read it."""
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= step:
            return f"{size_bytes / step:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def amount(count: float) -> str:
    """Write a large number as people read it: 1.2 M."""
    for unit, step in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= step and count >= 10_000:
            return f"{count / step:.1f} {unit}"
    return f"{count:.0f}"


def counted(count: float, noun: str) -> str:
    """Write how many there are of something: 1 chunk, 12 chunks."""
    return f"{amount(count)} {noun}" if count == 1 else f"{amount(count)} {noun}s"


def percent(part: float, whole: float) -> str:
    """Write a share; a dash where there is nothing to share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def ago(seconds: float) -> str:
    """Write a span of time in its largest unit."""
    for unit, step in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= step:
            return f"{seconds / step:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
