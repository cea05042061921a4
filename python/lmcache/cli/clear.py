# SPDX-License-Identifier: Apache-2.0
"""`lmcache clear`: forget what a segment holds; a segment that nobody uses goes altogether."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.markup import escape

from lmcache import _native
from lmcache.cli.console import console
from lmcache.cli.node import SegmentOption, amount, chosen_path, gigabytes
from lmcache.errors import InvalidArgumentError, UnavailableError

app = typer.Typer(add_completion=False)


@app.command(help="Forget what the segment of this node holds.")
def clear(
    segment: SegmentOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Only what belongs to this model.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Evict every chunk that nobody reads at this moment; engines go on with an empty cache."""
    path = str(chosen_path(segment))
    try:
        status = _native.inspect_segment(path)
    except UnavailableError:
        console().print(f"nothing to clear: there is no segment {escape(path)}", soft_wrap=True)
        return
    if model is not None:
        _check_model(status, model)
    if not yes:
        _confirm(path, status, model)
    if model is None and _native.remove_segment(path):
        console().print(f"removed {escape(path)}: nobody used it", soft_wrap=True)
        return
    removed = _native.clear_segment(path, model)
    console().print(f"evicted {removed} chunks from {escape(path)}", soft_wrap=True)


def _check_model(status: dict[str, Any], model: str) -> None:
    models = sorted({space["model"] for space in status["namespaces"]})
    if model not in models:
        known = ", ".join(models) or "nothing"
        raise InvalidArgumentError(f"--model = {model}: the segment holds {known}")


def _confirm(path: str, status: dict[str, Any], model: str | None) -> None:
    if not sys.stdin.isatty():
        raise InvalidArgumentError("there is no terminal to ask at: say --yes")
    spaces = [s for s in status["namespaces"] if model is None or s["model"] == model]
    entries = sum(space["entries"] for space in spaces)
    size = gigabytes(sum(space["bytes"] for space in spaces))
    alive = sum(process["alive"] for process in status["processes"])
    what = f" of {model}" if model else ""
    typer.confirm(
        f"Forget {amount(entries)} chunks{what} ({size}) in {path}, used by {alive} process(es)?",
        abort=True,
    )
