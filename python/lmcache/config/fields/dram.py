# SPDX-License-Identifier: Apache-2.0
"""Settings of the memory that the processes of a node share, and of the copies in and out of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.segment import Segment
from lmcache.config.value_types import Choice, FilePath, Gigabytes, Share


class DramOptions(BaseModel):
    """Memory: the tier that the processes of a node share"""

    local_cpu: bool = option(
        True, "Keep chunks in DRAM. False: DRAM is only a station on the way to lower tiers."
    )
    # Share of the free memory. 0.3 leaves room for the engine's own weights and page cache.
    local_cpu_ratio: Share = option(
        0.3,
        "Size of the DRAM tier as a share of the memory that this machine or its cgroup has free "
        "at the start. `max_local_cpu_size` wins.",
    )
    # GB = 10^9 bytes, as disks and memory are sold. One segment per node, so not per rank.
    max_local_cpu_size: Gigabytes | None = option(
        None,
        "Size of the DRAM tier in GB (10^9 bytes), per node and not per rank.",
        default_text="none: `local_cpu_ratio` decides",
    )
    segment: Segment = option(
        "auto",
        "Which memory the processes of a node share: `auto` (one segment per user, removed by the "
        "last process to leave), `private` (this process alone), or a name (kept until "
        "`lmcache clear` or `lmcache gc`). An absolute path names another folder, on a tmpfs or "
        "hugetlbfs.",
    )
    local_device: Choice[Literal["auto", "cpu", "cuda"]] = option(
        "auto",
        "Device of the hottest tier. `cuda` and `auto`: a pool in GPU memory, where the KV lies "
        "there and `max_local_device_size` is set. `cpu`: DRAM, whatever is set.",
    )
    # GB = 10^9 bytes. Of each rank, since each has a device: vLLM must leave as much free.
    max_local_device_size: Gigabytes | None = option(
        None,
        "Size of the pool in GPU memory in GB (10^9 bytes), per rank. It comes on top of what "
        "vLLM takes: lower `gpu_memory_utilization` by as much.",
        default_text="none: no pool",
    )
    eviction_policy: Choice[Literal["lru", "lfu", "arc", "s3fifo", "fifo", "mru"]] = option(
        "lru", "Which chunk makes room when the memory is full. Case does not matter."
    )
    cache_warmup: bool | FilePath = option(
        False,
        "True: fill DRAM from disk at the start, hottest chunks first. A path: a file of prompts "
        "to prefill.",
    )
    # The step loop of the engine must never wait for a copy; false is for measuring and for tests.
    async_write: bool = option(True, "Stores finish behind the engine's step loop.")
    # `auto`: only where the load takes long enough for the overlap to pay.
    use_layerwise: bool | Choice[Literal["auto"]] = option(
        "auto", "Overlap loading with computing, layer by layer."
    )
