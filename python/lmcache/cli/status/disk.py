# SPDX-License-Identifier: Apache-2.0
"""The disk tier in the report of a segment."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from lmcache.cli.node import amount, gigabytes, percent

_OF_TIER = (
    "folders",
    "io_engine",
    "unreadable",
    "limit_bytes",
    "file_bytes",
    "used_bytes",
    "chunks",
    "read_bytes_per_s",
    "write_bytes_per_s",
    "damaged_records",
    "processes",
)


NOT_IN_USE = "no process uses it now"


def disk_report(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is known of the disk tier; None without one.

    Counts are those of every process that was ever attached to the segment.
    """
    disk, total = status["disk"], status["total"]
    if disk is None:
        return None
    known = {name: disk[name] for name in _OF_TIER}
    # The last process that used it took along what they shared about it.
    if _is_gone(known["unreadable"]):
        known["unreadable"] = NOT_IN_USE
    return {
        **known,
        "written": {"chunks": total["disk_written_chunks"], "bytes": total["disk_written_bytes"]},
        "read": {"chunks": total["disk_read_chunks"], "bytes": total["disk_read_bytes"]},
        "hit_tokens": total["disk_hit_tokens"],
        "evicted_chunks": total["disk_evicted_chunks"],
        "dropped_writes": total["disk_dropped_writes"],
        "write_errors": total["disk_write_errors"],
        "read_errors": total["disk_read_errors"],
        "corrupt_chunks": total["disk_corrupt_chunks"],
        "loads_declined": total["loads_declined"],
        "loads_abandoned": total["loads_abandoned"],
    }


def disk_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is shown of it; what is never wanted only when it happened."""
    lines = [("disk", escape(", ".join(report["folders"])) + f" by {report['io_engine']}")]
    if report["unreadable"] == NOT_IN_USE:
        return [("disk", f"{NOT_IN_USE}; `lmcache disk stat FOLDER` looks at it"), *_counts(report)]
    if report["unreadable"]:
        return [("disk", f"[yellow]{escape(report['unreadable'])}[/]"), *_counts(report)]
    limit = report["limit_bytes"]
    room = (
        f"{amount(report['chunks'])} chunks, {gigabytes(report['used_bytes'])}; files "
        f"{gigabytes(report['file_bytes'])} of {gigabytes(limit)} "
        f"({percent(report['file_bytes'], limit)})"
    )
    lines += [("on disk", room), ("disk speed", speeds(report))]
    if report["damaged_records"]:
        lines.append(
            ("index damage", f"[yellow]{amount(report['damaged_records'])} records lost[/]")
        )
    return lines + _counts(report)


def _is_gone(unreadable: str) -> bool:
    return unreadable.startswith("cannot open segment ") and unreadable.endswith(
        os.strerror(errno.ENOENT)
    )


def speeds(report: Mapping[str, Any]) -> str:
    """Write the speeds that engines measured."""
    told = [
        f"{verb} {gigabytes(report[f'{name}_bytes_per_s'])}/s"
        for name, verb in (("read", "reads"), ("write", "writes"))
        if report[f"{name}_bytes_per_s"]
    ]
    return ", ".join(told) or "not measured yet"


def _counts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for name, title in (("written", "written"), ("read", "read back")):
        moved = report[name]
        lines.append((title, f"{amount(moved['chunks'])} chunks, {gigabytes(moved['bytes'])}"))
    told = (
        ("loads_declined", "prompts were computed: loading was not worth it", "disk hits"),
        ("loads_abandoned", "prompts stopped waiting for their chunks", "disk hits"),
        ("dropped_writes", "chunks: no room, or more than write_behind_bytes", "not written"),
        ("write_errors", "errors of the device while writing", "disk errors"),
        ("read_errors", "errors of the device while reading", "disk errors"),
        ("corrupt_chunks", "chunks were not what was written: computed again", "corrupt"),
    )
    for name, what, title in told:
        if report[name]:
            lines.append((title, f"[yellow]{amount(report[name])} {what}[/]"))
    return lines
