# SPDX-License-Identifier: Apache-2.0
"""The report of a segment for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lmcache.cli.node import ago, amount, gigabytes, percent
from lmcache.cli.status.device import device_lines
from lmcache.cli.status.disk import disk_lines
from lmcache.cli.status.remote import remote_lines


def render(report: Mapping[str, Any]) -> RenderableType:
    """Return everything that is shown of a segment."""
    return Group(_facts(report), _namespaces(report), _processes(report))


def _facts(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in _lines(report):
        table.add_row(name, text)
    return table


def _lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    used, capacity = report["used_bytes"], report["capacity_bytes"]
    entries, writing = amount(report["entries"]), report["writing"]
    chunks = f"{entries}, {writing} being written, {report['leased']} leased"
    stay = "kept until `lmcache clear` or `gc`" if report["kept"] else "goes with its last process"
    age = ago(time.time() - report["created_unix_s"])
    found, asked = report["hit_tokens"], report["lookup_tokens"]
    times = amount(report["lookups"]) + " look-ups" + _speed(report["lookup_us"])
    lookups = f"{amount(asked)} tokens in {times}"
    stored, loaded, evicted = report["stored"], report["loaded"], report["evicted"]
    lines = [
        ("segment", f"{escape(report['path'])}, made {age} ago, {stay}"),
        ("memory", f"{gigabytes(used)} used of {gigabytes(capacity)} ({percent(used, capacity)})"),
        ("chunks", chunks),
        ("hit rate", f"[bold]{percent(found, asked)}[/] of {lookups}"),
        ("stored", _traffic(stored) + _speed(report["store_us"])),
        ("loaded", _traffic(loaded) + _speed(report["load_us"])),
        ("evicted", f"{amount(evicted['chunks'])} chunks, {gigabytes(evicted['bytes'])}"),
    ]
    if report["avg_ttft_reduction"] is not None:
        lines.insert(4, ("first token", f"{report['avg_ttft_reduction']:.1f} times sooner"))
    for name, title in (("dropped_stores", "not stored"), ("load_failures", "not loaded")):
        if report[name]["total"]:
            lines.append((title, f"[yellow]{_reasons(report[name])}[/]"))
    if report["device"]:
        lines += device_lines(report["device"])
    if report["disk"]:
        lines += disk_lines(report["disk"])
    if report["remote"]:
        lines += remote_lines(report["remote"])
    return lines


def _traffic(amounts: Mapping[str, int]) -> str:
    return f"{amount(amounts['chunks'])} chunks, {gigabytes(amounts['bytes'])}"


def _speed(times: Mapping[str, float]) -> str:
    """Write the times of the attached processes; nothing when they did none of it."""
    if not times["count"]:
        return ""
    return f" [dim](median {times['p50']:.0f} µs, 99 % {times['p99']:.0f} µs)[/]"


def _reasons(counts: Mapping[str, int]) -> str:
    reasons = ", ".join(
        f"{amount(count)} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and name != "total"
    )
    return f"{amount(counts['total'])} chunks: {reasons}"


def _namespaces(report: Mapping[str, Any]) -> Table:
    headings = ("model", "KV", "chunks", "memory", "tokens asked", "hit rate")
    table = _headed(headings, right=(2, 3, 4, 5))
    for space in sorted(report["namespaces"], key=lambda space: -space["bytes"]):
        table.add_row(
            escape(space["model"]),
            escape(kind_of(space["made_of"])),
            amount(space["entries"]),
            gigabytes(space["bytes"]),
            amount(space["lookup_tokens"]),
            percent(space["hit_tokens"], space["lookup_tokens"]),
        )
    if not report["namespaces"]:
        table.add_row("[dim]none yet[/]")
    return table


def kind_of(made_of: Mapping[str, Any]) -> str:
    """Write what tells the namespaces of one model apart."""
    geometry = made_of.get("geometry") or {}
    parts = [
        str(geometry.get("dtype", "")),
        f"chunks of {made_of['chunk_tokens']} tokens" if "chunk_tokens" in made_of else "",
        f"{made_of['world_size']} ranks" if made_of.get("world_size", 1) > 1 else "",
        f"LoRA {made_of['lora']}" if made_of.get("lora") else "",
        f"salt {made_of['salt_sha256']}" if made_of.get("salt_sha256") else "",
    ]
    return ", ".join(part for part in parts if part)


def _processes(report: Mapping[str, Any]) -> Table:
    headings = ("process", "role", "instance", "attached", "stored", "loaded", "hit rate")
    table = _headed(headings, right=(0, 4, 5, 6))
    for process in report["processes"]:
        state = (
            ago(time.time() - process["attached_unix_s"]) if process["alive"] else "[red]gone[/]"
        )
        table.add_row(
            str(process["pid"]),
            escape(process["role"]),
            escape(process["instance_id"]),
            state,
            gigabytes(process["stored_bytes"]),
            gigabytes(process["loaded_bytes"]),
            percent(process["hit_tokens"], process["lookup_tokens"]),
        )
    if not report["processes"]:
        table.add_row("[dim]none[/]")
    return table


def _headed(headings: tuple[str, ...], right: tuple[int, ...]) -> Table:
    table = Table(box=None, padding=(0, 1), title=" ", title_justify="left")
    for at, heading in enumerate(headings):
        justify: Any = "right" if at in right else "left"
        table.add_column(heading, header_style="dim", justify=justify, overflow="fold")
    return table
