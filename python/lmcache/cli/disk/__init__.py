# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk`: look after the disk caches of this node."""

from __future__ import annotations

import typer

from lmcache.cli.disk.clear import clear
from lmcache.cli.disk.scrub import scrub
from lmcache.cli.disk.stat import stat

app = typer.Typer(
    help="Look after the disk cache of this node.", no_args_is_help=True, add_completion=False
)
app.command()(stat)
app.command()(scrub)
app.command()(clear)

__all__ = ["app"]
