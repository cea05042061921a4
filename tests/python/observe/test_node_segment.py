# SPDX-License-Identifier: Apache-2.0
"""A segment seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cache_process import CacheProcess

from lmcache import LMCacheConfig
from lmcache.config import SegmentPlace
from lmcache.errors import InvalidArgumentError
from lmcache.observe.node_segment import node_segment, segment_path


def test_the_file_of_a_place() -> None:
    assert segment_path(SegmentPlace("private")) is None
    assert segment_path(SegmentPlace("auto")) == f"/dev/shm/lmcache-{os.geteuid()}-auto"
    assert segment_path(SegmentPlace("x", "/mnt/huge")) == f"/mnt/huge/lmcache-{os.geteuid()}-x"


def test_looking_does_not_join(segment: str) -> None:
    config = LMCacheConfig(segment=segment)
    assert node_segment(config) is None
    with CacheProcess(segment) as other:
        other.store([1, 2, 3])
        status = node_segment(config)
        assert status is not None
        assert [process["pid"] for process in status["processes"]] == [other.pid]
        assert status["entries"] == 1
    assert node_segment(LMCacheConfig(segment="private")) is None


def test_what_is_no_segment_is_an_error(segment: str) -> None:
    config = LMCacheConfig(segment=segment)
    place = config.segment_place
    file = Path(segment_path(place) or "")
    file.touch(0o600)
    with pytest.raises(InvalidArgumentError, match="is not a segment of ours"):
        node_segment(config)
