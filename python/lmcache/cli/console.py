# SPDX-License-Identifier: Apache-2.0
"""Writing to the terminal: colour and tables for people, plain JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

# Columns when the output is a file or a pipe, where rich would otherwise fold lines at 80.
_FILE_COLUMNS = 200


def console(stderr: bool = False) -> Console:
    """Return a console for the stream as it is now (tests replace the streams)."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _FILE_COLUMNS
    return Console(file=stream, width=width, highlight=False)


def print_error(message: str) -> None:
    """Print a mistake in red, on one line unless the message itself has several."""
    console(stderr=True).print(f"[bold red]error:[/] [red]{escape(message)}[/]", soft_wrap=True)


def print_warning(message: str) -> None:
    """Print something the user should know of, without stopping."""
    text = f"[bold yellow]warning:[/] {escape(message)}"
    console(stderr=True).print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value for a program to read: indented, keys in the given order, no colour."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
