# SPDX-License-Identifier: Apache-2.0
"""`lmcache config`: what is in force and why, whether a file is right, and what may be written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lmcache.cli.console import console, print_json, print_warning
from lmcache.config import LMCacheConfig, load_config
from lmcache.config.model import SECTIONS
from lmcache.config.schema import json_schema
from lmcache.config.value_types import printable

app = typer.Typer(
    help="Show, check and describe the configuration.", no_args_is_help=True, add_completion=False
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    json: JsonOption = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="A YAML file, instead of LMCACHE_CONFIG_FILE.")
    ] = None,
) -> None:
    """Print every setting, its value and where the value came from."""
    config = load_config(file=file, log_warnings=False)
    if json:
        print_json(_as_json(config))
        return
    _tell(config)
    for section in SECTIONS:
        console().print(_table(config, section))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration."""
    print_json(json_schema())


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A YAML file.", show_default=False)]) -> None:
    """Check a YAML file by itself, without the environment: exit status 2 if it is wrong."""
    config = load_config(environ={}, file=file, log_warnings=False)
    _tell(config)
    count = len(config.warnings)
    told = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    console().print(f"[green]{escape(str(file))}: right[/]{told}", soft_wrap=True)


def _tell(config: LMCacheConfig) -> None:
    for warning in config.warnings:
        print_warning(warning)
    for name, why in config.unavailable():
        print_warning(f"{name} ({config.sources[name]}): {why}")


def _table(config: LMCacheConfig, section: Any) -> Table:
    title = str(section.__doc__).partition(":")[0]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold", header_style="dim")
    for name in section.model_fields:
        source, changed = config.sources[name], config.sources[name].kind != "default"
        plain = _plain(getattr(config, name))
        value = plain if plain == "none" else printable(name, plain)
        table.add_row(
            name,
            f"[bold]{escape(value)}[/]" if changed else escape(value),
            escape(str(source)) if changed else f"[dim]{source}[/]",
        )
    return table


def _plain(value: Any) -> str:
    """Return a value as it is written in a file."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_json(config: LMCacheConfig) -> dict[str, Any]:
    sources = config.sources
    settings = {}
    for name, value in config.model_dump(mode="json").items():
        shown = printable(name, value) if isinstance(value, str) else value
        settings[name] = {"value": shown, "source": str(sources[name]), "kind": sources[name].kind}
    unavailable = [{"setting": name, "why": why} for name, why in config.unavailable()]
    return {"settings": settings, "warnings": list(config.warnings), "unavailable": unavailable}
