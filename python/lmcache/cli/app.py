# SPDX-License-Identifier: Apache-2.0
"""The program `lmcache`: what all commands share, and errors as a line instead of a traceback."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

import lmcache
from lmcache.cli.commands import CommandTable
from lmcache.cli.console import print_error
from lmcache.errors import LMCacheError, native_missing

# Exit status of a mistake of the user, as in most Unix programs; 1 means "looked, and it is not
# well".
USER_ERROR = 2

_log = logging.getLogger("lmcache")

app = typer.Typer(
    cls=CommandTable,
    name="lmcache",
    help="The KV cache beside an LLM serving engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lmcache {lmcache.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show the log, and where an error arose.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Set up what all commands share."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


def main() -> None:
    """Run the program. A user's mistake is one red line and exit status 2; `-v` shows the rest."""
    try:
        app(prog_name="lmcache")
    except (LMCacheError, OSError) as error:
        _fail(error)
    except ImportError as error:
        if "lmcache._native" not in str(error) and "_native." not in str(error):
            raise
        _fail(native_missing(error))


def _fail(error: Exception) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        _log.error("failed", exc_info=error)
    print_error(str(error))
    sys.exit(USER_ERROR)
