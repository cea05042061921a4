# SPDX-License-Identifier: Apache-2.0
"""The pools in GPU memory in the report of a segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmcache.cli.node import amount, gigabytes, percent


def device_report(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the processes of the segment have in GPU memory; None without a pool.

    Counts are those of every process that was ever attached to the segment.
    """
    users = [record for record in status["processes"] if record["device_capacity_bytes"]]
    total = status["total"]
    if not users and not total["device_stored_chunks"]:
        return None
    return {
        "processes": len(users),
        "capacity_bytes": sum(record["device_capacity_bytes"] for record in users),
        "used_bytes": sum(record["device_used_bytes"] for record in users),
        "chunks": sum(record["device_chunks"] for record in users),
        "stored": _traffic(total, "stored"),
        "loaded": {**_traffic(total, "loaded"), "tokens": total["device_loaded_tokens"]},
        "evicted_chunks": total["device_evicted_chunks"],
    }


def _traffic(total: Mapping[str, int], done: str) -> dict[str, int]:
    return {"chunks": total[f"device_{done}_chunks"], "bytes": total[f"device_{done}_bytes"]}


def device_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is shown of it."""
    used, capacity, loaded = report["used_bytes"], report["capacity_bytes"], report["loaded"]
    room = f"{gigabytes(used)} used of {gigabytes(capacity)} ({percent(used, capacity)})"
    held = f"{amount(report['chunks'])} chunks of {report['processes']} process(es)"
    moved = f"{amount(loaded['chunks'])} chunks loaded, {gigabytes(loaded['bytes'])}"
    return [
        ("GPU memory", f"{room}, {held}"),
        ("from there", f"{moved}; {amount(report['evicted_chunks'])} evicted"),
    ]
