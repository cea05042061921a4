# SPDX-License-Identifier: Apache-2.0
"""What the connector counted since it was last asked, as vLLM carries it from every process to the
front.
"""

from __future__ import annotations

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats

# Name -> what it counts. All are sums, so that processes and intervals add up.
COUNTERS = {
    "lookups": "requests looked up",
    "lookup_tokens": "tokens that were asked for and that vLLM had not cached itself",
    "hit_tokens": "tokens of these that were found and taken",
    "loads": "loads that ended",
    "loaded_tokens": "tokens loaded, on each rank",
    "loaded_bytes": "bytes loaded, over all ranks",
    "load_seconds": "time loads took, from submission to arrival",
    "disk_waits": "requests that waited for chunks from disk",
    "disk_wait_seconds": "how long they waited, summed",
    "failed_blocks": "blocks that could not be loaded and were recomputed",
    "stored_chunks": "chunks stored, over all ranks",
    "dropped_chunks": "chunks that were to be stored and were not",
    "prefill_tokens": "prompt tokens computed in steps without loads",
    "prefill_seconds": "time these steps took",
}


class LMCacheStats(KVConnectorStats):
    """Sums by name of `COUNTERS`; absent means zero."""

    data: dict[str, float]

    def reset(self) -> None:
        self.data = {}

    def add(self, **amounts: float) -> None:
        """Count something."""
        for name, amount in amounts.items():
            if name not in COUNTERS:
                raise KeyError(name)
            self.data[name] = self.data.get(name, 0) + amount

    def take(self) -> LMCacheStats | None:
        """Return what was counted and start again; None when that is nothing."""
        if self.is_empty():
            return None
        taken = LMCacheStats(data=self.data)
        self.data = {}
        return taken

    def aggregate(self, other: Any) -> LMCacheStats:
        for name, amount in other.data.items():
            self.data[name] = self.data.get(name, 0) + amount
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
        }
        if get("disk_waits", 0):
            wait_s = get("disk_wait_seconds", 0) / get("disk_waits", 0)
            figures["disk wait ms"] = round(wait_s * 1000, 1)
        if get("failed_blocks", 0):
            figures["failed blocks"] = int(get("failed_blocks", 0))
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
