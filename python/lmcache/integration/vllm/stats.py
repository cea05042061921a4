# SPDX-License-Identifier: Apache-2.0
"""What the connector counted since it was last asked, as vLLM carries it from every process to the
front: to the log line (`reduce`) and to the metrics (`prom_metrics`).
"""

from __future__ import annotations

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats

# Name -> what it counts. All are sums, so that processes and intervals add up.
COUNTERS = {
    "lookups": "requests looked up",
    "lookup_tokens": "tokens that were asked for and that vLLM had not cached itself",
    "hit_tokens": "tokens of these that were found and taken",
    "hit_requests": "requests looked up that took any",
    "prompt_tokens": "tokens of the requests looked up",
    "engine_hit_tokens": "tokens of these that vLLM had cached itself",
    "dram_hit_tokens": "tokens taken that lay in memory when they were asked for",
    "disk_hit_tokens": "tokens taken that came from disk",
    "remote_hit_tokens": "tokens taken that came from the remote store",
    "lookup_seconds": "time look-ups took; a request that waits is looked up again",
    "loads": "loads that ended",
    "loaded_tokens": "tokens loaded, on each rank",
    "loaded_bytes": "bytes loaded, over all ranks",
    "load_seconds": "time loads took, from submission to arrival",
    "retrieved_tokens": "tokens loaded, of each request once",
    "disk_waits": "requests that waited for chunks from below the memory",
    "disk_wait_seconds": "how long they waited, summed",
    "failed_blocks": "blocks that could not be loaded and were recomputed",
    "stores": "stores begun, each of new chunks of one request",
    "stored_chunks": "chunks stored, over all ranks",
    "stored_bytes": "bytes stored, over all ranks",
    "stored_tokens": "tokens stored, of each request once",
    "store_seconds": "time stores took, from submission to the end of the copy; they overlap",
    "dropped_chunks": "chunks that were to be stored and were given back",
    "evicted_chunks": "chunks evicted from memory by this engine",
    "evicted_bytes": "bytes evicted from memory by this engine",
    "expired_chunks": "chunks removed because their time was over",
    "device_stored_chunks": "chunks copied into the pools in GPU memory, over all ranks",
    "device_loaded_chunks": "chunks loaded from the pools in GPU memory, over all ranks",
    "device_loaded_bytes": "bytes loaded from the pools in GPU memory, over all ranks",
    "device_evicted_chunks": "chunks that made room there; they stay in memory",
    "disk_read_chunks": "chunks read from disk",
    "disk_read_bytes": "bytes read from disk",
    "disk_written_chunks": "chunks written to disk",
    "disk_written_bytes": "bytes written to disk",
    "remote_read_chunks": "chunks read from the remote store",
    "remote_read_bytes": "bytes read from the remote store",
    "remote_written_chunks": "chunks written to the remote store",
    "remote_written_bytes": "bytes written to the remote store",
    "loads_declined": "requests whose chunks below the memory were slower to fetch than to compute",
    "loads_abandoned": "requests that stopped waiting for theirs",
    "prefill_tokens": "prompt tokens computed in steps without loads",
    "prefill_seconds": "time these steps took",
    # Why chunks were not stored.
    "dropped_no_space": "nothing could be evicted to make room",
    "dropped_too_large": "larger than the segment can hold",
    "dropped_lane_undeclared": "a rank had not said how large its blocks are",
    "dropped_lock_timeout": "the index stayed locked",
    "dropped_cancelled": "the request or its load went wrong before the copy began",
    "dropped_copy_failed": "the device reported an error",
    # Why chunks that were found were not loaded.
    "load_failed_gone": "evicted, cleared or expired in between",
    "load_failed_cancelled": "given up at the deadline, or with the request",
    "load_failed_timeout": "did not arrive in time",
    "load_failed_copy_failed": "the device reported an error",
    # What went wrong below the memory.
    "disk_failed_write": "chunks that could not be written to disk",
    "disk_failed_read": "chunks that could not be read from disk",
    "disk_failed_corrupt": "chunks read from disk that were not what was written",
    "disk_failed_dropped": "chunks not written to disk: too many were waiting, or no room",
    "remote_failed_write": "chunks the remote store did not take",
    "remote_failed_read": "chunks the remote store did not give",
    "remote_failed_corrupt": "chunks from the remote store that were not what was asked for",
    "remote_failed_dropped": "chunks not sent: too many were waiting, or the store is left alone",
}

# Lists of what was measured, one by one.
OBSERVATIONS = {
    "lookup_times": "seconds one question of vLLM's scheduler took, hashing included",
    "load_times": "seconds of one load, from submission to arrival",
    "load_speeds": "tokens per second of one load",
    "request_hit_rates": "part of the tokens a request asked for that it took, 0 to 1",
}

# What is true now; of several, the last counts. Only the scheduler's process reports them.
GAUGES = {
    "dram_used_bytes": "bytes in use of the segment, by all engines that share it",
    "dram_capacity_bytes": "bytes the segment may have",
    "dram_chunks": "chunks in the segment",
    "leased_chunks": "chunks in the segment that may not be evicted now",
    "disk_used_bytes": "bytes of chunks on disk, of all engines that share it",
    "disk_limit_bytes": "bytes all files on disk may have together",
    "healthy": "1 while the cache is used, 0 when vLLM goes on without it",
}


class LMCacheStats(KVConnectorStats):
    """Sums by name of `COUNTERS`, lists of `OBSERVATIONS`, values of `GAUGES`; absent means zero,
    none, unknown.
    """

    data: dict[str, Any]

    def reset(self) -> None:
        self.data = {}

    def add(self, **amounts: float) -> None:
        """Count something."""
        for name, amount in amounts.items():
            if name not in COUNTERS:
                raise KeyError(name)
            self.data[name] = self.data.get(name, 0) + amount

    def observe(self, **values: float) -> None:
        """Note one measurement each."""
        for name, value in values.items():
            if name not in OBSERVATIONS:
                raise KeyError(name)
            self.data.setdefault(name, []).append(value)

    def put(self, **values: float) -> None:
        """Say what is true now."""
        for name, value in values.items():
            if name not in GAUGES:
                raise KeyError(name)
            self.data[name] = value

    def observe_loads(self) -> None:
        """Note the loads counted since the last `take`, mostly one: their mean time and speed. Of
        all ranks, only one that speaks for all does this.
        """
        loads, seconds = self.data.get("loads", 0), self.data.get("load_seconds", 0)
        if not loads:
            return
        self.observe(load_times=seconds / loads)
        tokens = self.data.get("retrieved_tokens", 0)
        if tokens and seconds > 0:
            self.observe(load_speeds=tokens / seconds)

    def take(self) -> LMCacheStats | None:
        """Return what was counted and start again; None when that is nothing."""
        if self.is_empty():
            return None
        taken = LMCacheStats(data=self.data)
        self.data = {}
        return taken

    def aggregate(self, other: Any) -> LMCacheStats:
        for name, value in other.data.items():
            if name in GAUGES:
                self.data[name] = value
            elif isinstance(value, list):
                self.data[name] = self.data.get(name, []) + value
            else:
                self.data[name] = self.data.get(name, 0) + value
        return self

    def reduce(self) -> dict[str, int | float]:
        """Return the figures of an interval that people read in the log."""
        get = self.data.get
        asked, load_s = get("lookup_tokens", 0), get("load_seconds", 0)
        figures: dict[str, int | float] = {
            "hit tokens": int(get("hit_tokens", 0)),
            "hit rate": round(get("hit_tokens", 0) / asked, 3) if asked else 0.0,
            "loaded MB": round(get("loaded_bytes", 0) / 1e6, 1),
            "load GB/s": round(get("loaded_bytes", 0) / load_s / 1e9, 2) if load_s else 0.0,
            "stored chunks": int(get("stored_chunks", 0)),
            "stored MB": round(get("stored_bytes", 0) / 1e6, 1),
        }
        if get("disk_waits", 0):
            wait_s = get("disk_wait_seconds", 0) / get("disk_waits", 0)
            figures["disk wait ms"] = round(wait_s * 1000, 1)
        for name, text in _WHEN_NOT_ZERO.items():
            if get(name, 0):
                figures[text] = int(get(name, 0))
        dropped = sum(get(name, 0) for name in COUNTERS if name in _DROPPED)
        if dropped:
            figures["dropped chunks"] = int(dropped)
        if get("healthy", 1) == 0:
            figures["off"] = 1
        return figures

    def is_empty(self) -> bool:
        return not self.data

    def ttft_reduction(self) -> float:
        """Return how many times faster prompts started: time to compute what was loaded, over time
        to load.

        1.0 when nothing was loaded or prefill was not measured.
        """
        get = self.data.get
        if (
            not get("loaded_tokens", 0)
            or not get("prefill_tokens", 0)
            or not get("load_seconds", 0)
        ):
            return 1.0
        seconds_per_token = get("prefill_seconds", 0) / get("prefill_tokens", 0)
        return float(get("loaded_tokens", 0) * seconds_per_token / get("load_seconds", 0))


_DROPPED = frozenset(
    name for name in COUNTERS if name.startswith("dropped_") and name != "dropped_chunks"
)
_WHEN_NOT_ZERO = {
    "disk_hit_tokens": "from disk",
    "remote_hit_tokens": "from remote",
    "device_loaded_chunks": "chunks from GPU",
    "failed_blocks": "failed blocks",
}
