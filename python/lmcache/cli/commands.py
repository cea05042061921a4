# SPDX-License-Identifier: Apache-2.0
"""The commands of `lmcache`, and loading the module of a command only when it is the one to run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Command:
    """A command: the module has an `app = typer.Typer(...)` with one command or several."""

    module: str
    summary: str  # one line in `lmcache --help`


# In the order of `lmcache --help`. A new command is one module and one line here.
COMMANDS = {
    "config": Command("lmcache.cli.config", "Show, check and describe the configuration."),
    "status": Command(
        "lmcache.cli.status", "Show what the segment of this node holds, and who uses it."
    ),
    "explain": Command("lmcache.cli.explain", "Say why requests hit or missed."),
    "disk": Command("lmcache.cli.disk", "Look after the disk cache of this node."),
    "remote": Command("lmcache.cli.remote", "Look after the store that nodes share."),
    "clear": Command("lmcache.cli.clear", "Forget what the segment of this node holds."),
    "gc": Command(
        "lmcache.cli.gc", "Remove what is left in shared memory of processes that are gone."
    ),
    "bench": Command("lmcache.cli.bench", "Measure on this machine what the README promises."),
    "doctor": Command("lmcache.cli.doctor", "Check this machine, and say what to do."),
}


class CommandTable(TyperGroup):
    """The group of all commands. It imports the one that runs; help needs only the table."""

    _running = ""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Remember which command is about to run, then find it as usual."""
        self._running = args[0]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Return the command itself if it is to run, else a name with a summary."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        if cmd_name != self._running:
            return TyperCommand(name=cmd_name, help=command.summary)
        loaded = typer.main.get_command(importlib.import_module(command.module).app)
        loaded.name = cmd_name
        return loaded
