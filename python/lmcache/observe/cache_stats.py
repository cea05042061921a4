# SPDX-License-Identifier: Apache-2.0
"""`get_cache_stats()`: one dictionary for people, dashboards and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lmcache.config import load_config
from lmcache.errors import LMCacheError
from lmcache.observe.engine_stats import EngineStats, open_engines
from lmcache.observe.node_segment import node_segment

_DROPPED, _FAILED = "dropped_stores_", "load_failures_"


class Observed(Protocol):
    """Something with an engine inside, such as `lmcache.LMCacheEngine`."""

    @property
    def observed(self) -> EngineStats:
        """The counters of its engine."""


def get_cache_stats(engine: Observed | EngineStats | None = None) -> dict[str, Any]:
    """Return what the cache did and holds. Does not block for long, never starts anything.

    With `engine`: of that engine. Without: of all engines that are open in this process, together;
    if there are none, of every process that ever used the segment which the configuration names.

    Keys: `source` ("engine", "process", "segment", or "nothing" when there is no such segment);
    `hit_rate`, tokens found over tokens looked up, 0.0 to 1.0; `avg_ttft_reduction`, how many times
    shorter the wait for the first token was (None until prefill was measured); `lookups`,
    `lookup_tokens`, `hit_tokens`; `stored` and `loaded` {`chunks`, `tokens`, `bytes`}; `evicted`
    {`chunks`, `bytes`, `expired_chunks`}; `dropped_stores` and `load_failures` {`total`, and a
    count per reason, in chunks}; `duplicate_stores`, chunks that were there already; `failures`,
    errors that became misses, by code; `tiers` {`dram`: {`capacity_bytes`, `used_bytes`,
    `entries`}}.
    """
    if engine is None:
        return _of_process() or _of_node()
    observed = engine if isinstance(engine, EngineStats) else engine.observed
    return _summary("engine", observed.counters(), observed.failures(), [observed.segment()])


def summary(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same dictionary for the status of a segment."""
    return _summary("segment", status["total"], {}, [status])


def _of_process() -> dict[str, Any] | None:
    counters: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    segments = []
    for engine in open_engines():
        try:
            counts, segment = engine.counters(), engine.segment()
        except LMCacheError:  # closed by another thread just now, or too busy to answer
            continue
        counters.update(counts)
        failures.update(engine.failures())
        segments.append(segment)
    if not segments:
        return None
    return _summary("process", counters, failures, _distinct(segments))


def _of_node() -> dict[str, Any]:
    status = node_segment(load_config(log_warnings=False))
    return _summary("nothing", Counter(), {}, []) if status is None else summary(status)


def _distinct(segments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each segment once; private ones, which have no path, are all different."""
    seen: dict[Any, dict[str, Any]] = {}
    for segment in segments:
        seen[segment["path"] or id(segment)] = segment
    return list(seen.values())


def _summary(
    source: str,
    counters: Mapping[str, int],
    failures: Mapping[str, int],
    segments: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    count = Counter(counters)  # 0 for what is not there
    dropped = _by_reason(counters, _DROPPED)
    duplicates = dropped.pop("duplicate", 0)
    dram = Counter[str]()
    for segment in segments:
        dram.update({name: segment[name] for name in ("capacity_bytes", "used_bytes", "entries")})
    return {
        "source": source,
        "hit_rate": _ratio(count["hit_tokens"], count["lookup_tokens"]) or 0.0,
        "avg_ttft_reduction": ttft_reduction(count),
        "lookups": count["lookups"],
        "lookup_tokens": count["lookup_tokens"],
        "hit_tokens": count["hit_tokens"],
        "stored": _amounts(count, "stored", "chunks", "tokens", "bytes"),
        "loaded": _amounts(count, "loaded", "chunks", "tokens", "bytes"),
        "evicted": {
            **_amounts(count, "evicted", "chunks", "bytes"),
            "expired_chunks": count["expired_chunks"],
        },
        "dropped_stores": _with_total(dropped),
        "duplicate_stores": duplicates,
        "load_failures": _with_total(_by_reason(counters, _FAILED)),
        "failures": dict(failures),
        "tiers": {
            "dram": {
                "capacity_bytes": dram["capacity_bytes"],
                "used_bytes": dram["used_bytes"],
                "entries": dram["entries"],
            }
        },
    }


def ttft_reduction(count: Mapping[str, int]) -> float | None:
    """Return the average time to first token without the cache over that with it.

    Both are for the same requests: all tokens at the measured speed of prefill, against the tokens
    that were not found at that speed plus the loads. None until both were measured.
    """
    if not count["prefill_tokens"] or not count["prefill_ns"] or not count["request_tokens"]:
        return None
    ns_per_token = count["prefill_ns"] / count["prefill_tokens"]
    without = count["request_tokens"] * ns_per_token
    computed = count["request_tokens"] - count["request_hit_tokens"]
    return _ratio(without, computed * ns_per_token + count["request_load_ns"])


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _amounts(count: Mapping[str, int], verb: str, *units: str) -> dict[str, int]:
    return {unit: count[f"{verb}_{unit}"] for unit in units}


def _by_reason(counters: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in counters.items()
        if name.startswith(prefix)
    }


def _with_total(reasons: dict[str, int]) -> dict[str, int]:
    return {"total": sum(reasons.values()), **reasons}
