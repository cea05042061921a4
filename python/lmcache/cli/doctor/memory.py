# SPDX-License-Identifier: Apache-2.0
"""Memory: is there room for the segment, may it be locked, are there huge pages."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from lmcache.cli.doctor.check import Check, gigabytes
from lmcache.config import SegmentPlace


def check_shared_memory(place: SegmentPlace, capacity_bytes: int) -> Check:
    """Compare what the segment wants with what its folder has, counting what it already holds."""
    name = "shared memory"
    if place.private:
        return Check(name, "ok", "not used: the segment is private")
    folder = Path(place.directory)
    if not folder.is_dir():
        return Check(name, "fail", f"{folder} does not exist", "mount a tmpfs or hugetlbfs there")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check(name, "fail", f"{folder} cannot be written by this user", "change its mode")
    size = os.statvfs(folder)
    held = _allocated_bytes(folder / f"lmcache-{os.getuid()}-{place.name}")
    free_bytes, total_bytes = size.f_bavail * size.f_frsize + held, size.f_blocks * size.f_frsize
    found = (
        f"{folder} has {gigabytes(free_bytes)} free of {gigabytes(total_bytes)}, "
        f"the cache wants {gigabytes(capacity_bytes)}"
    )
    if free_bytes >= capacity_bytes:
        return Check(name, "ok", found)
    advice = (
        f"`mount -o remount,size={_whole_gigabytes(capacity_bytes)}G {folder}`, a container with "
        f"`--shm-size={_whole_gigabytes(capacity_bytes)}g`, or max_local_cpu_size below "
        f"{free_bytes / 10**9:.1f}"
    )
    return Check(name, "fail", found, advice)


def check_memory(capacity_bytes: int, available_bytes: int) -> Check:
    """Compare the capacity with the memory that is free."""
    found = f"{gigabytes(available_bytes)} free, the cache may take {gigabytes(capacity_bytes)}"
    if capacity_bytes <= available_bytes:
        return Check("memory", "ok", found)
    return Check("memory", "warn", found, "the machine may swap or kill: lower max_local_cpu_size")


def check_memlock(capacity_bytes: int, cuda: bool) -> Check:
    """Look whether the segment may be locked, which copies to a GPU at full speed need."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY:
        return Check("memlock limit", "ok", "unlimited")
    found = f"{gigabytes(limit)} may be locked"
    if limit >= capacity_bytes:
        return Check("memlock limit", "ok", found)
    if not cuda:
        return Check("memlock limit", "ok", f"{found}; without a GPU nothing needs more")
    advice = "`ulimit -l unlimited`, or a container with `--ulimit memlock=-1`"
    return Check("memlock limit", "warn", found, advice)


def check_huge_pages(place: SegmentPlace, capacity_bytes: int, root: str = "/") -> Check:
    """Look at reserved huge pages: needed on a hugetlbfs, otherwise a matter of speed."""
    numbers = {}
    for line in (Path(root) / "proc/meminfo").read_text().splitlines():
        key, _, rest = line.partition(":")
        numbers[key] = int(rest.split()[0])
    page_bytes = numbers.get("Hugepagesize", 0) * 1024
    free_bytes = numbers.get("HugePages_Free", 0) * page_bytes
    reserved = gigabytes(free_bytes) + " free" if free_bytes else "none reserved"
    found = f"{reserved}, pages of {page_bytes >> 20} MiB"
    if _on_hugetlbfs(place.directory, root) and free_bytes < capacity_bytes and page_bytes:
        pages = -(-capacity_bytes // page_bytes)
        return Check("huge pages", "fail", found, f"`sysctl vm.nr_hugepages={pages}`")
    thp = Path(root) / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    if thp.exists():
        chosen = thp.read_text().partition("[")[2].partition("]")[0]
        found += f"; transparent in shared memory: {chosen}"
    return Check("huge pages", "ok", found)


def _on_hugetlbfs(directory: str, root: str) -> bool:
    """Return whether the innermost mount above `directory` is a hugetlbfs."""
    try:
        mounts = (Path(root) / "proc/self/mounts").read_text().splitlines()
    except OSError:
        return False
    kinds = {line.split()[1]: line.split()[2] for line in mounts}
    above = [str(path) for path in (Path(directory), *Path(directory).parents)]
    return next((kinds[path] for path in above if path in kinds), "") == "hugetlbfs"


def _allocated_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _whole_gigabytes(size_bytes: int) -> int:
    """Round up to what mount and docker call a gigabyte (2^30 bytes)."""
    return -(-size_bytes // (1 << 30))
