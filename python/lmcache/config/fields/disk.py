# SPDX-License-Identifier: Apache-2.0
"""Settings of the disk tier."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Bytes, Choice, Folders, Gigabytes, Megabytes


class DiskOptions(BaseModel):
    """Disk: a tier on local drives"""

    enable_disk_cache: bool = option(
        False, "Keep chunks on disk too. Setting `local_disk` switches this on by itself."
    )
    disk_cache_path: Folders = option(
        ("/tmp/lmcache",),
        "Folder of the disk tier, or several separated by commas, over which chunks are striped. "
        "`file://` in front is allowed.",
    )
    # GB = 10^9 bytes, per node: the processes of a node share one disk tier.
    max_local_disk_size: Gigabytes | None = option(
        None,
        "Size of the disk tier in GB (10^9 bytes), per node.",
        default_text="10 % of the free space",
    )
    # `none` survives the death of any process: what was written is the kernel's.
    durability: Choice[Literal["none", "data"]] = option(
        "none",
        "What a chunk on disk survives: `none`, the death of any process; `data`, a lost power "
        "supply too (fdatasync before it counts as written).",
    )
    write_behind_bytes: Bytes = option(
        256 << 20,
        "Bytes that were stored in memory and are on their way to disk, at most, per process. What "
        "exceeds it is not written, and counted. A quarter of the memory at most.",
        default_text="268435456 (256 MiB)",
    )
    disk_io: Choice[Literal["auto", "io_uring", "threads"]] = option(
        "auto",
        "How files are read and written: `io_uring`, `threads`, or `auto`: io_uring unless the "
        "kernel or the container refuses it.",
    )
    # Always: to save computing rather than time.
    load_policy: Choice[Literal["auto", "always"]] = option(
        "auto",
        "Which chunks are fetched from below memory: `auto`, those that come faster than computing "
        "them would take, by what was measured of both; `always`, all.",
    )
    # Of use where the drive is shared with others.
    max_disk_bandwidth: Megabytes | None = option(
        None, "Reads and writes together, in MB (10^6 bytes) per second, per process."
    )
