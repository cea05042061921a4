# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote clear`: remove all chunks from a store, and nothing else that it holds."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from lmcache.cli.console import console
from lmcache.cli.node import counted
from lmcache.cli.store import UrlOption, open_store
from lmcache.errors import InvalidArgumentError


def clear(
    url: UrlOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove every chunk from the store, for all who share it. Other keys stay."""
    store = open_store(url)
    report = store.stat()
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgumentError("there is no terminal to ask at: say --yes")
        typer.confirm(
            f"Remove {counted(report['chunks'], 'chunk')} from {report['url']}?", abort=True
        )
    removed = store.clear()
    console().print(
        f"removed {counted(removed, 'chunk')} from {escape(report['url'])}", soft_wrap=True
    )
