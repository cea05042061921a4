# SPDX-License-Identifier: Apache-2.0
"""Which values name a segment, and where it then lies."""

from __future__ import annotations

import pytest

from lmcache.config import LMCacheConfig, SegmentPlace
from lmcache.errors import ConfigError


@pytest.mark.parametrize(
    ("segment", "place"),
    [
        ("auto", SegmentPlace("auto")),
        ("private", SegmentPlace("private")),
        ("team-A_1.x", SegmentPlace("team-A_1.x", keep=True)),
        ("a" * 64, SegmentPlace("a" * 64, keep=True)),
        ("/dev/hugepages/big", SegmentPlace("big", "/dev/hugepages", keep=True)),
        ("/mnt/tmp fs/x", SegmentPlace("x", "/mnt/tmp fs", keep=True)),
    ],
)
def test_place(segment: str, place: SegmentPlace) -> None:
    assert LMCacheConfig(segment=segment).segment_place == place
    assert place.private == (segment == "private")


@pytest.mark.parametrize(
    "segment",
    ["a/b", "a b", "a" * 65, ".", "..", "ä", "/dev/shm/", "/dev/shm/..", "/dev/../x", "//x/y",
     "/dev/shm/auto", "~/x", "x\n"],
)  # fmt: skip
def test_refused(segment: str) -> None:
    with pytest.raises(ConfigError, match="segment"):
        LMCacheConfig(segment=segment)
