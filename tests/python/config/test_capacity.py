# SPDX-License-Identifier: Apache-2.0
"""Capacity against made-up machines: no cgroup, version 1, version 2, nested, containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcache.config import LMCacheConfig, available_memory_bytes, capacity_bytes
from lmcache.config.capacity import device_pool_bytes

MIB = 1 << 20


def _machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    1048576 kB\n")
    if cgroup:
        (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_an_explicit_size_wins() -> None:
    config = LMCacheConfig(max_local_cpu_size=1.5, local_cpu_ratio=0.1)
    assert capacity_bytes(config, available_bytes=10) == 1_500_000_000


@pytest.mark.parametrize(
    ("device", "size_gb", "pool_bytes"),
    [
        ("auto", None, 0),
        ("auto", 2.5, 2_500_000_000),
        ("cuda", 2.5, 2_500_000_000),
        ("cuda", None, 0),
        ("cpu", 2.5, 0),
    ],
)
def test_the_pool_in_gpu_memory(device: str, size_gb: float | None, pool_bytes: int) -> None:
    config = LMCacheConfig(local_device=device, max_local_device_size=size_gb)
    assert device_pool_bytes(config) == pool_bytes


def test_a_share_of_what_is_free() -> None:
    assert capacity_bytes(LMCacheConfig(local_cpu_ratio=0.25), available_bytes=1000) == 250
    assert capacity_bytes(LMCacheConfig()) > 0


@pytest.mark.parametrize(
    ("cgroup", "files", "free_mib"),
    [
        ("", {}, 1024),
        ("0::/\n", {}, 1024),
        ("0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "5\n"}, 1024),
        ("0::/a\n", {"a/memory.max": f"{512 * MIB}\n", "a/memory.current": f"{112 * MIB}\n"}, 400),
        (  # the page cache of the cgroup can be taken back
            "0::/a\n",
            {
                "a/memory.max": f"{512 * MIB}\n",
                "a/memory.current": f"{112 * MIB}\n",
                "a/memory.stat": f"anon 7\nactive_file 9\ninactive_file {100 * MIB}\n",
            },
            500,
        ),
        (  # the parent is tighter than the child
            "0::/a/b\n",
            {
                "a/memory.max": f"{64 * MIB}\n",
                "a/memory.current": f"{60 * MIB}\n",
                "a/b/memory.max": f"{512 * MIB}\n",
                "a/b/memory.current": "0\n",
            },
            4,
        ),
        (  # a container: the path is the host's, the limit lies at the mount
            "0::/docker/0123\n",
            {"memory.max": f"{256 * MIB}\n", "memory.current": "0\n"},
            256,
        ),
        (
            "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
            {
                "memory/x/memory.limit_in_bytes": f"{128 * MIB}\n",
                "memory/x/memory.usage_in_bytes": f"{28 * MIB}\n",
                "memory/x/memory.stat": f"inactive_file 1\ntotal_inactive_file {8 * MIB}\n",
            },
            108,
        ),
        (  # version 1 says "no limit" with a huge number
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/x/memory.usage_in_bytes": "0\n",
            },
            1024,
        ),
        ("0::/a\n", {"a/memory.max": "1\n", "a/memory.current": "100\n"}, 0),
    ],
)
def test_available(tmp_path: Path, cgroup: str, files: dict[str, str], free_mib: int) -> None:
    assert available_memory_bytes(_machine(tmp_path, cgroup, files)) == free_mib * MIB
