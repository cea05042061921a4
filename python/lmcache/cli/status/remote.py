# SPDX-License-Identifier: Apache-2.0
"""The remote tier in the report of a segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from lmcache.cli.node import amount, gigabytes, percent
from lmcache.cli.status.disk import speeds

_COUNTS = (
    "lookups",
    "lookup_chunks",
    "found_chunks",
    "known_chunks",
    "dropped_writes",
    "write_errors",
    "read_errors",
    "corrupt_chunks",
    "hit_tokens",
)


def remote_report(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the processes of the segment see of their remote store; None without one.

    Counts are those of every process that was ever attached to the segment.
    """
    users = [record for record in status["processes"] if record["remote_state"]]
    total = status["total"]
    if not users and not total["remote_lookups"] and not total["remote_written_chunks"]:
        return None
    return {
        "connected": sum(record["remote_state"] == "connected" for record in users),
        "processes": len(users),
        "failures": sum(record["remote_failures"] for record in users),
        "lookup_us": round(max((r["remote_lookup_ns"] for r in users), default=0) / 1000, 1),
        "read_bytes_per_s": max((r["remote_read_bytes_per_s"] for r in users), default=0),
        "write_bytes_per_s": max((r["remote_write_bytes_per_s"] for r in users), default=0),
        # Of processes that do not use it first.
        "last_error": next(
            (
                record["remote_last_error"]
                for record in sorted(users, key=lambda r: r["remote_state"] == "connected")
                if record["remote_last_error"]
            ),
            "",
        ),
        **{name: total[f"remote_{name}"] for name in _COUNTS},
        "written": {
            "chunks": total["remote_written_chunks"],
            "bytes": total["remote_written_bytes"],
        },
        "read": {"chunks": total["remote_read_chunks"], "bytes": total["remote_read_bytes"]},
    }


def remote_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is shown of it; what is never wanted only when it happened."""
    connected, processes = report["connected"], report["processes"]
    state = f"{connected} of {processes} process(es) connected"
    if connected < processes:
        state = f"[yellow]{state}; the others go on without it until it answers[/]"
    asked, found = report["lookup_chunks"], report["found_chunks"]
    lines = [
        ("remote", state),
        ("remote speed", f"{speeds(report)}; a lookup takes {report['lookup_us']:g} us"),
        ("asked for", f"{amount(asked)} chunks, {percent(found, asked)} were there"),
    ]
    for name, title in (("written", "sent"), ("read", "fetched")):
        moved = report[name]
        lines.append((title, f"{amount(moved['chunks'])} chunks, {gigabytes(moved['bytes'])}"))
    told = (
        ("failures", "times the store did not answer", "remote failures"),
        ("dropped_writes", "chunks: more than write_behind_bytes, or no store", "not sent"),
        ("write_errors", "chunks could not be sent", "remote errors"),
        ("read_errors", "chunks could not be fetched", "remote errors"),
        ("corrupt_chunks", "chunks were not what was asked for: computed", "remote corrupt"),
    )
    if report["last_error"]:
        lines.append(("last failure", escape(report["last_error"])))
    for name, what, title in told:
        if report[name]:
            lines.append((title, f"[yellow]{amount(report[name])} {what}[/]"))
    return lines
