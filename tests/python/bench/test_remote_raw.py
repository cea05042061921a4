# SPDX-License-Identifier: Apache-2.0
"""Loopback alone."""

from __future__ import annotations

import os

import pytest

from lmcache.bench.remote_raw import raw_pair

CHUNKS, SIZE = 5, 100_000


@pytest.mark.multiprocess
def test_it_moves_all_chunks_both_ways() -> None:
    memory = memoryview(bytearray(os.urandom(CHUNKS * SIZE)))
    with raw_pair(memory, SIZE) as pair:
        assert pair.receive() > 0
        # The other side began with zeros, and every byte of ours was overwritten by them.
        assert bytes(memory) == bytes(CHUNKS * SIZE)
        last = os.urandom(SIZE)
        memory[-SIZE:] = last
        assert pair.send() > 0
        assert pair.receive() > 0
        # It gave back what it got last.
        assert bytes(memory) == last * CHUNKS
        whole = os.urandom(CHUNKS * SIZE)
        memory[:] = whole
        assert pair.send(keep=True) > 0
        memory[:] = bytes(CHUNKS * SIZE)
        assert pair.receive(kept=True) > 0
    assert bytes(memory) == whole, "what was to be kept was"


@pytest.mark.multiprocess
def test_the_other_process_ends_with_it() -> None:
    import multiprocessing

    before = set(multiprocessing.active_children())
    with (
        pytest.raises(ValueError, match="given up"),
        raw_pair(memoryview(bytearray(SIZE)), SIZE),
    ):
        raise ValueError("given up")
    for process in set(multiprocessing.active_children()) - before:
        process.join(30)
        assert process.exitcode is not None
