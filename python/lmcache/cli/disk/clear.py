# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk clear`: forget what a disk cache holds; one that nobody uses goes altogether."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lmcache.cli.console import console
from lmcache.cli.disk.folders import PathArgument, chosen_folders, open_existing, written
from lmcache.cli.disk.removal import holds_volume, remove_files
from lmcache.cli.node import counted, gigabytes
from lmcache.errors import CorruptedError, InvalidArgumentError, LMCacheError, UnavailableError


def clear(
    path: PathArgument = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget every chunk that nobody reads at this moment. Without a user its files go too."""
    folders = chosen_folders(path)
    for folder in folders:
        if Path(folder).exists() and not Path(folder).is_dir():
            raise InvalidArgumentError(f"{folder} is no folder")
    place = escape(written(folders))
    out = console()
    if not any(map(holds_volume, folders)):
        out.print(f"nothing to clear: there is no disk cache in {place}", soft_wrap=True)
        return
    question = _question(folders)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgumentError("there is no terminal to ask at: say --yes")
        typer.confirm(question, abort=True)
    if remove_files(folders):
        out.print(f"removed the files in {place}: nobody used them", soft_wrap=True)
        return
    forgotten = open_existing(folders).clear()
    out.print(f"forgot {counted(forgotten, 'chunk')} in {place}", soft_wrap=True)


def _question(folders: list[str]) -> str:
    """Write what would be forgotten. The volume is closed afterwards: who has it open uses it."""
    unusable: tuple[type[LMCacheError], ...] = (InvalidArgumentError, CorruptedError)
    if not all(map(holds_volume, folders)):
        unusable = (*unusable, UnavailableError)
    try:
        status = open_existing(folders).status()
    except unusable as error:
        return f"{error}. Remove what is left in {written(folders)}?"
    chunks, size = counted(status["chunks"], "chunk"), gigabytes(status["used_bytes"])
    users = status["processes"] - 1
    return f"Forget {chunks} ({size}) in {written(folders)}, used by {users} process(es)?"
