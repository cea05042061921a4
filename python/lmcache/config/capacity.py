# SPDX-License-Identifier: Apache-2.0
"""How many bytes the DRAM tier gets: the size that was asked for, or a share of the memory that is
free.

Free is what the kernel says an application can have without swapping, and no more than what the
cgroups above this process leave it. The page cache of a cgroup counts as free, because the kernel
takes it back on demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmcache.config.model import LMCacheConfig

GIGABYTE = 10**9


def capacity_bytes(config: LMCacheConfig, available_bytes: int | None = None) -> int:
    """Return the size of the DRAM tier in bytes, for the whole node.

    `available_bytes` defaults to `available_memory_bytes()` and matters only without an explicit
    size.
    """
    if config.max_local_cpu_size is not None:
        return int(config.max_local_cpu_size * GIGABYTE)
    available = available_memory_bytes() if available_bytes is None else available_bytes
    return int(config.local_cpu_ratio * available)


def device_pool_bytes(config: LMCacheConfig) -> int:
    """Return the size of the pool in GPU memory in bytes, of each rank; 0: none."""
    if config.local_device == "cpu" or config.max_local_device_size is None:
        return 0
    return int(config.max_local_device_size * GIGABYTE)


def available_memory_bytes(root: str | Path = "/") -> int:
    """Return the memory this process can still get, in bytes. `root` holds /proc and /sys."""
    base = Path(root)
    free = [_meminfo_available(base), *_cgroup_free(base)]
    return max(0, min(free))


def _meminfo_available(base: Path) -> int:
    numbers = {}
    for line in (base / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        numbers[name] = int(rest.split()[0]) * 1024  # the unit "kB" means 1024 bytes here
    return numbers.get("MemAvailable", numbers.get("MemFree", 0))


def _cgroup_free(base: Path) -> Iterator[int]:
    """Yield what each limited cgroup above this process leaves, cgroup v1 or v2."""
    try:
        lines = (base / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = base / "sys/fs/cgroup"
            names = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = base / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in _upwards(mount, path):
            free = _group_free(folder, *names)
            if free is not None:
                yield free


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folders from the cgroup of this process up to the mount.

    Inside a container `path` may be the one the host sees; those folders do not exist, the mount
    does.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _group_free(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text().strip()
        used = int((folder / used_name).read_text())
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return int(limit) - used + _reclaimable(folder, cache_name)


def _reclaimable(folder: Path, cache_name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == cache_name:
            return int(value)
    return 0
