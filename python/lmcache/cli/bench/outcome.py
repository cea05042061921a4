# SPDX-License-Identifier: Apache-2.0
"""The outcome of a measurement: JSON for programs, a table with the targets for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.table import Table

from lmcache.cli.console import console


@dataclass(frozen=True)
class Row:
    """One figure. `reached` is None where nothing was promised."""

    name: str
    figure: str
    target: str = ""
    reached: bool | None = None


def print_rows(rows: list[Row]) -> None:
    """Print the figures, and whether each reached its target."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("", style="dim")
    table.add_column("measured", justify="right", header_style="dim")
    table.add_column("target", header_style="dim")
    table.add_column("")
    verdicts = {None: "", True: "[green]reached[/]", False: "[bold red]missed[/]"}
    for row in rows:
        table.add_row(row.name, row.figure, row.target, verdicts[row.reached])
    console().print(table)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that tells what is being done, if somebody sits at the terminal."""
    out = console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda _line: None
        return
    with out.status("") as status:
        yield status.update
