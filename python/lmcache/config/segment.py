# SPDX-License-Identifier: Apache-2.0
"""What the setting `segment` means: which memory processes share, and who removes it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from lmcache.config.allowed import Allowed

# Where POSIX shared memory lives on Linux; a path in `segment` names another tmpfs or a hugetlbfs.
SHARED_MEMORY_DIRECTORY = "/dev/shm"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class SegmentPlace:
    """Where the segment lies: `<directory>/lmcache-<uid>-<name>`, unless it is private."""

    name: str
    directory: str = SHARED_MEMORY_DIRECTORY
    # False: the last process to leave cleanly removes it; true: it stays until `lmcache clear` or
    # `gc`.
    keep: bool = False

    @property
    def private(self) -> bool:
        """True when the memory belongs to this process alone and has no name in the file system."""
        return self.name == "private"


def segment_place(segment: str) -> SegmentPlace:
    """Return the place a value of the setting `segment` stands for; ValueError if none."""
    if segment in ("auto", "private"):
        return SegmentPlace(segment)
    directory, name = os.path.split(segment)
    if not _NAME.fullmatch(name) or name in (".", "..", "auto", "private"):
        raise ValueError("not a segment name")
    if not directory:
        return SegmentPlace(name, keep=True)
    if directory[:1] != "/" or directory[:2] == "//" or os.path.normpath(directory) != directory:
        raise ValueError("not a plain absolute path")
    return SegmentPlace(name, directory, keep=True)


def _check(segment: str) -> str:
    segment_place(segment)
    return segment


Segment = Annotated[
    str,
    AfterValidator(_check),
    Allowed(
        '"auto", "private", a name of up to 64 letters, digits, ".", "_" or "-", '
        "or the absolute path of a tmpfs or hugetlbfs folder followed by such a name"
    ),
]
