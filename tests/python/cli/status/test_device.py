# SPDX-License-Identifier: Apache-2.0
"""The pools in GPU memory in `lmcache status`, of made-up processes: there is no GPU here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lmcache.cli.status.device import device_lines, device_report

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"
_NONE = {"device_capacity_bytes": 0, "device_used_bytes": 0, "device_chunks": 0}
_POOL = {"device_capacity_bytes": 8 * 10**9, "device_used_bytes": 2 * 10**9, "device_chunks": 60}


def _status(*processes: dict[str, int], **counted: int) -> dict[str, Any]:
    names = ("stored_chunks", "stored_bytes", "loaded_chunks", "loaded_bytes", "loaded_tokens")
    total = {f"device_{name}": 0 for name in (*names, "evicted_chunks")}
    return {"processes": list(processes), "total": total | counted}


def test_without_a_pool_nothing_is_said() -> None:
    assert device_report(_status()) is None
    assert device_report(_status(_NONE, _NONE)) is None


def test_pools_add_up() -> None:
    report = device_report(
        _status(
            _NONE,
            _POOL,
            _POOL,
            device_loaded_chunks=40,
            device_loaded_bytes=10**9,
            device_loaded_tokens=10240,
            device_evicted_chunks=3,
        )
    )
    assert report is not None
    assert (report["processes"], report["chunks"]) == (2, 120)
    assert report["capacity_bytes"] == 16 * 10**9
    assert report["loaded"] == {"chunks": 40, "bytes": 10**9, "tokens": 10240}
    assert device_lines(report) == [
        ("GPU memory", "4.0 GB used of 16.0 GB (25.0 %), 120 chunks of 2 process(es)"),
        ("from there", "40 chunks loaded, 1.0 GB; 3 evicted"),
    ]
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(report) - documented == set()


def test_what_a_process_that_left_had_counts() -> None:
    report = device_report(_status(device_stored_chunks=7, device_stored_bytes=70))
    assert report is not None
    assert report["stored"] == {"chunks": 7, "bytes": 70}
    assert report["capacity_bytes"] == 0
