# SPDX-License-Identifier: Apache-2.0
"""The table of commands is true: each module is there and is a Typer application."""

from __future__ import annotations

import importlib

import pytest
import typer

from lmcache.cli.commands import COMMANDS, CommandTable


@pytest.mark.parametrize("name", COMMANDS)
def test_each_module_has_an_application_with_that_summary(name: str) -> None:
    command = COMMANDS[name]
    app = importlib.import_module(command.module).app
    assert isinstance(app, typer.Typer)
    assert typer.main.get_command(app).help == command.summary


def test_order_and_unknown_names() -> None:
    table = CommandTable(name="lmcache")
    assert table.list_commands(None) == list(COMMANDS)
    assert table.get_command(None, "nothing") is None


def test_a_command_that_does_not_run_is_only_a_summary() -> None:
    listed = CommandTable(name="lmcache").get_command(None, "config")
    assert listed.help == COMMANDS["config"].summary
    assert listed.callback is None
