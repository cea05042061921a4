# SPDX-License-Identifier: Apache-2.0
"""Who may hold blocks in vLLM's queue, so that those who do can go on."""

from __future__ import annotations

import types

from lmcache.integration.vllm.load_room import LoadRoom

FULL = types.SimpleNamespace(block_tokens=32, window_tokens=0)
WINDOW = types.SimpleNamespace(block_tokens=32, window_tokens=64)


def room(blocks):
    """`blocks` without the one that stands for what a window has passed."""
    return LoadRoom(types.SimpleNamespace(groups=(FULL, WINDOW)), blocks + 1)


def test_those_that_hold_blocks_fit_with_the_rest_of_their_prompts():
    queue = room(11 + 10)
    queue.take("first", 207, 192)  # 7 blocks, and 3 of the window with 1 for the rest
    assert queue.fits("second", 223, 222)  # 7, and 3 of the window
    queue.take("second", 223, 222)
    assert not queue.fits("third", 32, 31)
    queue.give("first")
    assert queue.fits("third", 32, 31)


def test_what_computes_all_waits_for_those_that_hold_blocks():
    queue = room(21)
    queue.take("first", 207, 192)
    assert queue.fits("small", 160, 0)
    assert not queue.fits("large", 161, 0)
    queue.give("first")
    assert queue.fits("large", 10_000, 0)  # vLLM knows


def test_who_waits_for_room_is_not_passed_by():
    queue = room(21)
    queue.take("first", 207, 192)
    assert not queue.fits("large", 320, 300)
    assert not queue.fits("small", 64, 63)
    assert queue.fits("computed", 64, 0)  # takes blocks only when it runs
    queue.give("large")  # its client has gone
    assert queue.fits("small", 64, 63)
