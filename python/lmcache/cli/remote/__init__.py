# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote`: look after the store that nodes share."""

from __future__ import annotations

import typer

from lmcache.cli.bench.remote import remote as bench
from lmcache.cli.remote.clear import clear
from lmcache.cli.remote.ping import ping
from lmcache.cli.remote.stat import stat

app = typer.Typer(
    help="Look after the store that nodes share.", no_args_is_help=True, add_completion=False
)
app.command()(ping)
app.command()(stat)
app.command("bench")(bench)
app.command()(clear)

__all__ = ["app"]
