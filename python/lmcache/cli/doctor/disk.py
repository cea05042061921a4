# SPDX-License-Identifier: Apache-2.0
"""The disk tier: can its folders be used, is there room, how will it read and write."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lmcache.cli.doctor.check import GIGABYTE, Check, gigabytes
from lmcache.config import LMCacheConfig
from lmcache.errors import LMCacheError

_NAME = "disk cache"
_NETWORK = ("nfs", "cifs", "smb", "ceph", "lustre", "gpfs", "9p", "glusterfs", "beegfs", "fuse.")
_MEMORY = ("tmpfs", "ramfs")


def check_disk(config: LMCacheConfig, root: str = "/") -> Iterator[Check]:
    """Yield what is known of each configured folder, of the room, and of the way of I/O."""
    if not config.enable_disk_cache:
        yield Check(_NAME, "ok", "not used: enable_disk_cache is false")
        return
    folders = [Path(folder).absolute() for folder in config.disk_cache_path]
    checks = [check_folder(folder, root) for folder in folders]
    yield from checks
    if all(check.status != "fail" for check in checks):
        yield check_room(folders, config.max_local_disk_size)
        yield from check_volume(folders)
    yield from check_engine(config.disk_io)


def check_folder(folder: Path, root: str = "/") -> Check:
    """Tell whether a folder can hold a disk cache of ours, and on what it lies."""
    place = _nearest(folder)
    if not place.is_dir():
        return Check(_NAME, "fail", f"{place} is no folder", "name another one")
    if not os.access(place, os.W_OK | os.X_OK):
        verb = "be written" if place == folder else "be made"
        advice = f"change the mode or the owner of {place}, or name another folder"
        return Check(_NAME, "fail", f"{folder} cannot {verb} by this user", advice)
    volume = folder / "volume"
    if volume.exists() and volume.stat().st_uid != os.geteuid():
        found = f"{folder} is a disk cache of user {volume.stat().st_uid}"
        return Check(_NAME, "fail", found, "give each user a folder of its own")
    kind = file_system(place, root)
    found = f"{folder} on {kind}" + ("" if folder.exists() else ", not made yet")
    if kind.startswith(_NETWORK):
        advice = "a drive of this machine is faster, and tells of a full disk in time"
        return Check(_NAME, "warn", f"{found}, a network file system", advice)
    if kind.startswith("overlay"):
        advice = "mount a volume there: what a container writes is gone with it, and slower"
        return Check(_NAME, "warn", found, advice)
    if kind in _MEMORY:
        return Check(_NAME, "warn", f"{found}: that is memory", "name a folder on a drive")
    if not takes_direct_io(place):
        advice = "it works through the page cache, slower; ext4 and xfs take O_DIRECT"
        return Check(_NAME, "warn", f"{found}, without O_DIRECT", advice)
    return Check(_NAME, "ok", f"{found}, with O_DIRECT")


def check_room(folders: list[Path], limit_gb: float | None) -> Check:
    """Compare the limit with what is free, counting what the disk cache holds already."""
    free = 0
    seen = set()
    for place in map(_nearest, folders):
        if (device := place.stat().st_dev) not in seen:
            seen.add(device)
            size = os.statvfs(place)
            free += size.f_bavail * size.f_frsize
    held = sum(path.stat().st_blocks * 512 for folder in folders for path in folder.glob("slab-*"))
    found = f"{gigabytes(free)} free, {gigabytes(held)} held"
    if limit_gb is None:
        text = f"{found}: it takes a tenth, {gigabytes((free + held) / 10)}"
        return Check("disk room", "ok", text)
    found += f", max_local_disk_size is {limit_gb:g} GB"
    if limit_gb * GIGABYTE <= free + held:
        return Check("disk room", "ok", found)
    advice = (
        f"max_local_disk_size below {(free + held) / GIGABYTE:.1f}; a disk that is full costs "
        "chunks, never an answer"
    )
    return Check("disk room", "warn", found, advice)


def check_volume(folders: list[Path]) -> Iterator[Check]:
    """Open the disk cache that is there, as an engine would; nothing when there is none."""
    if not any((folder / "volume").exists() for folder in folders):
        return
    try:
        native = importlib.import_module("lmcache._native")
        volume = native.DiskVolume.open([str(folder) for folder in folders], lambda *_: None)
    except ImportError:
        return  # told by another check
    except LMCacheError as error:
        advice = "engines start without it; `lmcache disk clear` makes a new one possible"
        yield Check("disk contents", "fail", str(error), advice)
        return
    status = volume.status()
    found = f"{status['chunks']} chunks, {gigabytes(status['used_bytes'])}"
    if damaged := status["damaged_records"]:
        found += f"; {damaged} records of the index were damaged"
        yield Check("disk contents", "warn", found, "`lmcache disk scrub` looks for more")
    else:
        yield Check("disk contents", "ok", found)


def check_engine(disk_io: str) -> Iterator[Check]:
    """Tell which engine of I/O the disk tier gets."""
    try:
        refusal = importlib.import_module("lmcache._native").uring_refusal()
    except ImportError:
        return
    if disk_io == "threads" or not refusal:
        yield Check("disk I/O", "ok", "threads" if disk_io == "threads" else "io_uring")
    elif disk_io == "io_uring":
        advice = "disk_io: auto or threads; or allow it (see io_uring above)"
        yield Check("disk I/O", "fail", f"disk_io is io_uring: {refusal}", advice)
    else:
        yield Check("disk I/O", "warn", f"threads: {refusal}", "see io_uring above")


def file_system(folder: Path, root: str = "/") -> str:
    """Return the kind of the innermost mount that a folder lies in."""
    try:
        mounts = (Path(root) / "proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    kinds = {line.split()[1]: line.split()[2] for line in mounts}
    resolved = folder.resolve()
    above = [str(path) for path in (resolved, *resolved.parents)]
    return next((kinds[path] for path in above if path in kinds), "unknown")


def takes_direct_io(folder: Path) -> bool:
    """Try to open a file past the page cache."""
    with tempfile.NamedTemporaryFile(prefix="lmcache-doctor-", dir=folder) as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        except OSError:
            return False
        return True


def _nearest(folder: Path) -> Path:
    """Return the folder, or the innermost one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
