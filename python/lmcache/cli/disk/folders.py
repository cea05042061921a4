# SPDX-License-Identifier: Apache-2.0
"""Which disk cache a command is about."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from lmcache import _native
from lmcache.config import load_config
from lmcache.config.value_types import Folders
from lmcache.errors import CorruptedError, InvalidArgumentError, UnavailableError

PathArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PATH[,PATH...]",
        help="Its folder, or all of its folders; otherwise the configured ones.",
        show_default=False,
    ),
]

_log = logging.getLogger("lmcache")


def chosen_folders(path: str | None) -> list[str]:
    """Return the absolute folders that PATH or, without it, the configuration names."""
    if path is not None:
        try:
            named = TypeAdapter(Folders).validate_python(path)
        except ValidationError:
            shown = path or '""'
            raise InvalidArgumentError(
                f"PATH = {shown}: is no folder, nor several separated by commas"
            ) from None
        return [_absolute(folder) for folder in named]
    config = load_config(log_warnings=False)
    if not config.enable_disk_cache:
        raise UnavailableError(
            "no disk cache is configured (enable_disk_cache is false): name its folder"
        )
    return [_absolute(folder) for folder in config.disk_cache_path]


def open_existing(folders: list[str]) -> _native.DiskVolume:
    """Open a disk cache as it is, beside the engines that use it. Raises `LMCacheError`."""
    try:
        return _native.DiskVolume.open(folders, _log.log)
    except (InvalidArgumentError, CorruptedError) as error:
        # `clear` takes what nobody can open, but nothing of another user's.
        if "/volume:" not in str(error) or "user" in str(error):
            raise
        raise type(error)(
            f"{error}; `lmcache disk clear {written(folders)}` removes what is left of it"
        ) from None


def written(folders: list[str]) -> str:
    """Write the folders as PATH takes them."""
    return ",".join(folders)


def _absolute(folder: str) -> str:
    return str(Path(folder).absolute())
