# SPDX-License-Identifier: Apache-2.0
"""The status of a segment as one dictionary: what `lmcache status --json` prints (docs/cli.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmcache import _native
from lmcache.cli.status.device import device_report
from lmcache.cli.status.disk import disk_report
from lmcache.cli.status.remote import remote_report
from lmcache.observe.cache_stats import summary

_OF_SEGMENT = (
    "created_unix_s",
    "capacity_bytes",
    "reserved_bytes",
    "used_bytes",
    "entries",
    "writing",
    "leased",
    "max_entries",
    "repaired_locks",
)
_OF_ALL = (
    "hit_rate",
    "avg_ttft_reduction",
    "lookups",
    "lookup_tokens",
    "hit_tokens",
    "stored",
    "loaded",
    "evicted",
    "dropped_stores",
    "duplicate_stores",
    "load_failures",
)


def segment_report(path: str) -> dict[str, Any]:
    """Look into a segment without joining it. Raises `LMCacheError` when that is not possible."""
    return report_of(_native.inspect_segment(path))


def report_of(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of a status that the native library gave."""
    stats = summary(status)
    return {
        "path": status["path"],
        "kept": not status["remove_when_unused"],
        **{name: status[name] for name in _OF_SEGMENT},
        **{name: stats[name] for name in _OF_ALL},
        "lookup_us": _microseconds(status["lookup_ns"]),
        "load_us": _microseconds(status["load_ns"]),
        "store_us": _microseconds(status["store_ns"]),
        "device": device_report(status),
        "disk": disk_report(status),
        "remote": remote_report(status),
        "namespaces": [_namespace(record) for record in status["namespaces"]],
        "processes": [_process(record) for record in status["processes"]],
    }


def _microseconds(histogram: Mapping[str, float]) -> dict[str, float]:
    """Return the times of the processes that are attached now."""
    return {
        "count": histogram["count"],
        "mean": round(histogram["mean"] / 1000, 3),
        "p50": round(histogram["p50"] / 1000, 3),
        "p99": round(histogram["p99"] / 1000, 3),
    }


def _namespace(record: Mapping[str, Any]) -> dict[str, Any]:
    asked = record["lookup_tokens"]
    return {
        "model": record["model"],
        "entries": record["entries"],
        "bytes": record["bytes"],
        "lookups": record["lookups"],
        "lookup_tokens": asked,
        "hit_tokens": record["hit_tokens"],
        "hit_rate": record["hit_tokens"] / asked if asked else 0.0,
        "made_of": made_of(record["description"]),
    }


def made_of(description: str) -> dict[str, Any]:
    """Return what a namespace is made of; nothing where the text was cut off."""
    try:
        facts = json.loads(description)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _process(record: Mapping[str, Any]) -> dict[str, Any]:
    counters = record["counters"]
    return {
        "pid": record["pid"],
        "role": record["role"],
        "instance_id": record["instance_id"],
        "alive": record["alive"],
        "attached_unix_s": record["attached_unix_s"],
        "lookup_tokens": counters["lookup_tokens"],
        "hit_tokens": counters["hit_tokens"],
        "stored_bytes": counters["stored_bytes"],
        "loaded_bytes": counters["loaded_bytes"],
        "device_used_bytes": record["device_used_bytes"],
    }
