# SPDX-License-Identifier: Apache-2.0
"""The outcome of looking at one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIGABYTE = 10**9


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, what was found and what to do about it."""

    name: str
    # warn: it works, but slower or not in full. fail: the cache does not start as configured.
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def gigabytes(size_bytes: float) -> str:
    """Write a size as people read it, in GB or, where that would be nothing, in MB."""
    if 0 < size_bytes < GIGABYTE / 10:
        return f"{size_bytes / (GIGABYTE / 1000):.1f} MB"
    return f"{size_bytes / GIGABYTE:.1f} GB"
