# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk stat`: what a disk cache holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from lmcache.cli.console import console, print_json
from lmcache.cli.disk.folders import PathArgument, chosen_folders, open_existing
from lmcache.cli.node import JsonOption, amount, counted, gigabytes, percent
from lmcache.cli.status.disk import speeds
from lmcache.cli.status.report import made_of
from lmcache.cli.status.tables import kind_of

_OF_VOLUME = (
    "file_bytes",
    "used_bytes",
    "chunks",
    "slabs",
    "record_capacity",
    "damaged_records",
    "read_bytes_per_s",
    "write_bytes_per_s",
)


def stat(path: PathArgument = None, json: JsonOption = False) -> None:
    """Show what a disk cache holds, and for which models. Nothing of it changes."""
    report = volume_report(open_existing(chosen_folders(path)).status())
    if json:
        print_json(report)
    else:
        console().print(Group(_facts(report), _models(report["models"])))


def volume_report(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `lmcache disk stat --json`, out of the status of an open volume."""
    others = status["processes"] - 1
    return {
        "folders": status["folders"],
        "processes": others,
        # Without an engine there is no limit: each brings its own.
        "limit_bytes": status["limit_bytes"] if others else None,
        **{name: status[name] for name in _OF_VOLUME},
        "models": [_model(record) for record in status["models"]],
    }


def _model(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": record["model"],
        "chunks": record["chunks"],
        "bytes": record["bytes"],
        "prefill_us_per_token": round(record["prefill_us_per_token"], 3),
        "made_of": made_of(record["description"]),
    }


def _facts(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    users, limit = report["processes"], report["limit_bytes"]
    room = f"{gigabytes(report['file_bytes'])} of files"
    if limit:
        room += f" of {gigabytes(limit)} ({percent(report['file_bytes'], limit)})"
    capacity = amount(report["record_capacity"])
    rows = [
        ("folders", escape(", ".join(report["folders"]))),
        ("used by", f"{users} process(es)" if users else "nobody at this moment"),
        ("room", f"{room}, {gigabytes(report['used_bytes'])} used by chunks"),
        ("chunks", f"{amount(report['chunks'])}, the index has room for {capacity}"),
        ("speed", speeds(report)),
    ]
    if report["damaged_records"]:
        damaged = counted(report["damaged_records"], "record")
        rows.append(
            ("damage", f"[yellow]{damaged} of the index[/]; `lmcache disk scrub` frees them")
        )
    for name, text in rows:
        table.add_row(name, text)
    return table


def _models(models: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), title=" ", title_justify="left")
    for heading in ("model", "KV"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for heading in ("chunks", "on disk", "computing a token"):
        table.add_column(heading, header_style="dim", justify="right")
    for model in models:
        time_us = model["prefill_us_per_token"]
        table.add_row(
            escape(model["model"]) or "[dim]not noted[/]",
            escape(kind_of(model["made_of"])),
            amount(model["chunks"]),
            gigabytes(model["bytes"]),
            f"{time_us:.0f} µs" if time_us else "-",
        )
    if not models:
        table.add_row("[dim]none yet[/]")
    return table
