# SPDX-License-Identifier: Apache-2.0
"""Removing the files of a disk cache that nobody uses (include/lmcache/tier/disk/disk_format.hpp).

The locks are those of the native library: byte 0 of the file `volume` is held by who opens the
volume, byte 1 by everybody who uses it. They are held here until the last file is gone.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lmcache.errors import InvalidArgumentError, TimedOutError

_SETUP_BYTE, _USE_BYTE = 0, 1
_SETUP_TIMEOUT_S = 10.0
# `volume` goes last: what is left of an interrupted removal can be removed again.
_NAMES = re.compile(r"slab-[0-9]{1,4}|index|order|order\.new|models|models\.new")


def holds_volume(folder: str) -> bool:
    """Tell whether there is a disk cache, or the rest of one, in a folder."""
    return os.path.lexists(Path(folder) / "volume")


def remove_files(folders: list[str]) -> bool:
    """Remove the files of the volume from its folders; False: somebody uses it, nothing is done."""
    with ExitStack() as locks:
        for folder in sorted(filter(holds_volume, folders)):
            if not locks.enter_context(_locked(folder)):
                return False
        for folder in filter(holds_volume, folders):
            for path in sorted(Path(folder).iterdir()):
                if _NAMES.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    path.unlink()
            (Path(folder) / "volume").unlink()
    return True


@contextmanager
def _locked(folder: str) -> Iterator[bool]:
    """Yield True while nobody else may use or open the volume, False if somebody uses it."""
    path = Path(folder) / "volume"
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        owner = os.fstat(file).st_uid
        if owner != os.geteuid():
            raise InvalidArgumentError(f"{folder} is a disk cache of user {owner}: it stays")
        deadline = time.monotonic() + _SETUP_TIMEOUT_S
        while not _lock(file, _SETUP_BYTE):
            if time.monotonic() > deadline:
                raise TimedOutError(f"{folder} is being opened by another process")
            time.sleep(0.005)
        yield _lock(file, _USE_BYTE)
    finally:
        os.close(file)


def _lock(file: int, byte: int) -> bool:
    # struct flock of 64-bit Linux: type, whence, start, length, process.
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
    except (BlockingIOError, PermissionError):
        return False
    return True
