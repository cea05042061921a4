# SPDX-License-Identifier: Apache-2.0
"""Settings of the disk tier."""

from __future__ import annotations

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Folders, Gigabytes


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
