# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench`: the figures of the README, measured on this machine."""

from __future__ import annotations

import typer

from lmcache.cli.bench.disk import disk
from lmcache.cli.bench.gpu import gpu
from lmcache.cli.bench.lookup import lookup
from lmcache.cli.bench.memory import memory
from lmcache.cli.bench.remote import remote
from lmcache.cli.bench.vllm import vllm

app = typer.Typer(
    help="Measure on this machine what the README promises.",
    no_args_is_help=True,
    add_completion=False,
)
app.command()(memory)
app.command()(lookup)
app.command()(disk)
app.command()(remote)
app.command()(vllm)
app.command()(gpu)

__all__ = ["app"]
