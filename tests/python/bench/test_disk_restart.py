# SPDX-License-Identifier: Apache-2.0
"""A cache of many small chunks is opened again by a new process."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcache.bench.disk_restart import RestartBench, drop_from_page_cache, key_batches
from lmcache.errors import OutOfMemoryError

KEYS = [
    "folder",
    "records",
    "attach_ms",
    "chunks_per_s",
    "find_ms",
    "found",
    "index_bytes",
    "write_s",
]


@pytest.mark.multiprocess
def test_every_chunk_is_found(tmp_path: Path) -> None:
    told: list[str] = []
    figures = RestartBench(tmp_path, 5000).run(told.append)
    assert list(figures) == KEYS
    assert figures["found"] == figures["records"] == 5000
    assert figures["index_bytes"] >= 5000 * 128
    assert figures["attach_ms"] > 0
    assert told[-1] == "attaching in a new process"
    assert list(tmp_path.iterdir()) == []


def test_keys_are_the_same_in_every_process() -> None:
    keys = list(key_batches(5000))
    assert keys == list(key_batches(5000))
    assert [len(batch) // 32 for batch in keys] == [4096, 904]


def test_room(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="are needed"):
        RestartBench(tmp_path, 10**11).run()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_dropped_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    drop_from_page_cache(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x" * 5000
