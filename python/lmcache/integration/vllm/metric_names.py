# SPDX-License-Identifier: Apache-2.0
"""Every metric of `/metrics`: its name, what fills it, and under which other names it appears.

The other names are those that dashboards made for LMCache ask for, where they mean the same.
`docs/metrics.md` lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

OURS = "lmcache:"
# Prefix of the metrics of the multi-process variant, as its exporter spells it.
OURS_MP = "lmcache_mp_"

_SECONDS = (1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOOKUP_SECONDS = (1e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0)
_TOKENS_PER_S = tuple(float(10**power * step) for power in range(2, 8) for step in (1, 2, 5))
_PARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Series:
    """One metric. `sources` are names of `stats`, by the value of `label` if there is one."""

    name: str
    kind: Kind
    help: str
    sources: dict[str, str]
    label: str = ""
    aliases: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rate:
    """A gauge: one sum over another, of the look-ups or loads of late."""

    name: str
    help: str
    part: str
    whole: str


@dataclass(frozen=True)
class _Reasons:
    """The sources of a metric with a label, by a common beginning of their names."""

    prefix: str
    values: tuple[str, ...] = field(default=())

    def sources(self) -> dict[str, str]:
        return {value: f"{self.prefix}{value}" for value in self.values}


def _counter(name: str, text: str, *aliases: str, source: str = "") -> Series:
    return Series(OURS + name, "counter", text, {"": source or name}, aliases=aliases)


def _gauge(name: str, text: str, *aliases: str) -> Series:
    return Series(OURS + name, "gauge", text, {"": name}, aliases=aliases)


def _histogram(
    name: str, text: str, source: str, buckets: tuple[float, ...], *aliases: str
) -> Series:
    return Series(OURS + name, "histogram", text, {"": source}, "", aliases, buckets)


def _by_reason(name: str, text: str, prefix: str, *values: str) -> Series:
    return Series(OURS + name, "counter", text, _Reasons(prefix, values).sources(), "reason")


_DROPPED = ("no_space", "too_large", "lane_undeclared", "lock_timeout", "cancelled", "copy_failed")
_TIER_FAILURES = ("write", "read", "corrupt", "dropped")

SERIES = (
    # Look-ups.
    _counter(
        "lookups",
        "Requests looked up, counted when vLLM admits them.",
        OURS + "num_lookup_requests",
        OURS_MP + "lookups",
    ),
    _counter(
        "lookup_tokens",
        "Tokens asked for: those of the requests looked up that vLLM had not cached itself.",
        OURS + "num_lookup_tokens",
        OURS_MP + "lookup_requested",
    ),
    _counter(
        "hit_tokens",
        "Tokens found and taken.",
        OURS + "num_lookup_hits",
        OURS + "num_requested_tokens",
        OURS_MP + "lookup_hit",
    ),
    Series(
        OURS + "hit_tokens_by_tier",
        "counter",
        "Tokens found and taken, by where they lay when they were asked for.",
        {tier: f"{tier}_hit_tokens" for tier in ("dram", "disk", "remote")},
        "tier",
    ),
    _counter("hit_requests", "Requests that took tokens.", OURS + "num_retrieve_requests"),
    _counter("prompt_tokens", "Tokens of the requests looked up.", OURS + "num_prompt_tokens"),
    _counter(
        "engine_hit_tokens",
        "Tokens of the requests looked up that vLLM had cached itself.",
        OURS + "num_vllm_hit_tokens",
    ),
    _counter("lookup_seconds", "Time look-ups took, in seconds."),
    _histogram(
        "lookup_time_seconds",
        "Time one question of vLLM's scheduler took, hashing included, in seconds.",
        "lookup_times",
        _LOOKUP_SECONDS,
        OURS + "time_to_lookup",
    ),
    _histogram(
        "request_hit_rate",
        "Part of the tokens a request asked for that it took.",
        "request_hit_rates",
        _PARTS,
        OURS + "request_cache_hit_rate",
    ),
    # Loads.
    _counter("loads", "Loads that ended, on each rank; one brings the hits of a step."),
    _counter("loaded_bytes", "Bytes loaded, over all ranks."),
    _counter("load_seconds", "Time loads took, from submission to arrival, over all ranks."),
    _counter(
        "loaded_tokens",
        "Tokens loaded, of each request once.",
        OURS + "num_hit_tokens",
        source="retrieved_tokens",
    ),
    _histogram(
        "load_time_seconds",
        "Time of one load, from submission to arrival, in seconds.",
        "load_times",
        _SECONDS,
        OURS + "time_to_retrieve",
    ),
    _histogram(
        "load_tokens_per_second",
        "Speed of one load.",
        "load_speeds",
        _TOKENS_PER_S,
        OURS + "retrieve_speed",
    ),
    _counter("fetch_waits", "Requests that waited for disk or remote.", source="disk_waits"),
    _counter("fetch_wait_seconds", "Time they waited, in seconds.", source="disk_wait_seconds"),
    _counter(
        "fetches_declined",
        "Requests for which computing was faster than disk or remote.",
        source="loads_declined",
    ),
    _counter(
        "fetches_abandoned",
        "Requests that stopped waiting for disk or remote.",
        source="loads_abandoned",
    ),
    _counter("failed_blocks", "Blocks that could not be loaded and were recomputed."),
    _by_reason(
        "failed_loads",
        "Chunks that were found and not loaded.",
        "load_failed_",
        "gone",
        "cancelled",
        "timeout",
        "copy_failed",
    ),
    # Stores.
    _counter(
        "stores", "Stores begun, each of new chunks of one request.", OURS + "num_store_requests"
    ),
    _counter("stored_chunks", "Chunks stored, over all ranks."),
    _counter("stored_bytes", "Bytes stored, over all ranks."),
    _counter("stored_tokens", "Tokens stored, of each request once.", OURS + "num_stored_tokens"),
    _counter("store_seconds", "Time stores took behind the step loop; they overlap."),
    _by_reason("dropped_chunks", "Chunks that were not stored.", "dropped_", *_DROPPED),
    # Memory.
    _counter(
        "evicted_chunks",
        "Chunks evicted from memory by this engine.",
        OURS + "local_cpu_evict_keys_count",
        OURS_MP + "l1_evicted",
    ),
    _counter("evicted_bytes", "Bytes evicted from memory by this engine."),
    _counter("expired_chunks", "Chunks removed because their time was over."),
    _gauge(
        "dram_used_bytes",
        "Bytes of the segment in use, by all engines that share it.",
        OURS + "local_cache_usage",
        OURS_MP + "l1_memory_usage_bytes",
    ),
    _gauge("dram_capacity_bytes", "Bytes the segment may have."),
    _gauge("dram_chunks", "Chunks in the segment.", OURS + "local_cpu_hot_cache_count"),
    _gauge(
        "leased_chunks",
        "Chunks in the segment that may not be evicted now.",
        OURS + "pinned_memory_objs_count",
    ),
    _gauge(
        "healthy",
        "1 while the cache is used, 0 when vLLM goes on without it.",
        OURS + "lmcache_is_healthy",
    ),
    # The pools in GPU memory.
    _counter("device_stored_chunks", "Chunks copied into the pools in GPU memory."),
    _counter("device_loaded_chunks", "Chunks loaded from the pools in GPU memory."),
    _counter("device_loaded_bytes", "Bytes loaded from the pools in GPU memory."),
    _counter("device_evicted_chunks", "Chunks that made room in GPU memory; they stay in DRAM."),
    # Disk.
    _gauge(
        "disk_used_bytes",
        "Bytes of chunks on disk, of all engines that share it.",
        OURS + "local_storage_usage",
        OURS_MP + "l2_usage_bytes",
    ),
    _gauge("disk_limit_bytes", "Bytes that all files on disk may have together."),
    _counter("disk_read_bytes", "Bytes read from disk."),
    _counter("disk_written_bytes", "Bytes written to disk."),
    _by_reason("disk_failures", "Chunks the disk failed on.", "disk_failed_", *_TIER_FAILURES),
    # Remote.
    _counter(
        "remote_read_chunks",
        "Chunks read from the remote store.",
        OURS + "num_remote_read_requests",
    ),
    _counter(
        "remote_read_bytes", "Bytes read from the remote store.", OURS + "num_remote_read_bytes"
    ),
    _counter(
        "remote_written_chunks",
        "Chunks written to the remote store.",
        OURS + "num_remote_write_requests",
    ),
    _counter(
        "remote_written_bytes",
        "Bytes written to the remote store.",
        OURS + "num_remote_write_bytes",
    ),
    _by_reason(
        "remote_failures", "Chunks the remote store failed on.", "remote_failed_", *_TIER_FAILURES
    ),
)

# One reason of a metric above, as a metric without labels of its own.
PARTS = (
    Series(
        OURS + "local_cpu_evict_failed_count",
        "counter",
        'Same as lmcache:dropped_chunks_total{reason="no_space"}.',
        {"": "dropped_no_space"},
    ),
    Series(
        OURS_MP + "l1_allocation_failure",
        "counter",
        'Same as lmcache:dropped_chunks_total{reason="no_space"}.',
        {"": "dropped_no_space"},
    ),
    Series(
        OURS + "get_blocking_failed_count",
        "counter",
        'Same as lmcache:remote_failures_total{reason="read"}.',
        {"": "remote_failed_read"},
    ),
    Series(
        OURS + "put_failed_count",
        "counter",
        'Same as lmcache:remote_failures_total{reason="write"}.',
        {"": "remote_failed_write"},
    ),
    Series(
        OURS_MP + "lookup_hit_l1",
        "counter",
        'Same as lmcache:hit_tokens_by_tier_total{tier="dram"}.',
        {"": "dram_hit_tokens"},
    ),
)

RATES = (
    Rate(
        OURS + "lookup_hit_rate",
        "lmcache:hit_tokens over lmcache:lookup_tokens, of late.",
        "hit_tokens",
        "lookup_tokens",
    ),
    Rate(
        OURS + "retrieve_hit_rate",
        "lmcache:loaded_tokens over lmcache:hit_tokens, of late.",
        "retrieved_tokens",
        "hit_tokens",
    ),
)


def exposed() -> tuple[Series, ...]:
    """Return every series, and each of the other names as a series of its own."""
    out: list[Series] = []
    for series in SERIES:
        out.append(series)
        for alias in series.aliases:
            text = f"Same as {series.name}."
            out.append(
                Series(alias, series.kind, text, series.sources, series.label, (), series.buckets)
            )
    return (*out, *PARTS)
