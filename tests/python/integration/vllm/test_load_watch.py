# SPDX-License-Identifier: Apache-2.0
"""Loads under way, as the scheduler half watches them."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="states are of vLLM's requests")

from lmcache.integration.vllm.load_watch import LoadWatch


class State:
    """A request that got to `confirmed` tokens."""

    def __init__(self, confirmed, preemptions=0, finished=False):
        self.request = types.SimpleNamespace(
            num_preemptions=preemptions, is_finished=lambda: finished
        )
        self.confirmed = confirmed
        self.hit = object()
        self.released = 0

    def confirmed_tokens(self):
        return self.confirmed

    def release_hit(self):
        self.released += 1


def settled(watch, step):
    failed = []
    watch.settle(step, failed.append)
    return failed


@pytest.mark.parametrize("batches", [1, 2])
def test_a_lease_ends_when_the_step_is_over(batches):
    watch, state = LoadWatch(batches), State(8)
    watch.sent(5, state, 8)
    assert settled(watch, 4 + batches) == []
    assert state.released == 0
    assert watch.may_fail(4 + batches)
    assert not watch.may_fail(5 + batches)
    assert settled(watch, 5 + batches) == []
    assert state.released == 1


def test_a_request_that_did_not_get_so_far_failed():
    watch, state = LoadWatch(1), State(7)
    watch.sent(1, state, 8)
    assert settled(watch, 2) == [state]


@pytest.mark.parametrize("state", [State(0, preemptions=1), State(0, finished=True)])
def test_of_requests_that_lost_their_blocks_nothing_can_be_told(state):
    watch = LoadWatch(1)
    was = state.request.num_preemptions
    state.request.num_preemptions = 0
    watch.sent(1, state, 8)
    state.request.num_preemptions = was
    assert settled(watch, 2) == []
    assert state.released == 1


@pytest.mark.parametrize("batches", [1, 2])
def test_what_was_found_since_stays_leased(batches):
    watch, state = LoadWatch(batches), State(0)
    watch.sent(1, state, 8)
    state.request.num_preemptions = 1
    state.hit = object()  # of the lookup after the request lost its blocks
    assert settled(watch, 1 + batches) == []
    assert state.released == 0


def test_three_failures_in_a_row_are_a_pause(caplog):
    watch = LoadWatch(1)
    for failed in (True, True, False, True, True):
        watch.ended(9, failed=failed)
    assert not watch.paused(9)
    watch.ended(9, failed=True)
    assert watch.paused(9)
    assert watch.paused(1008)
    assert not watch.paused(1009)
    assert caplog.text.count("loads failed in a row") == 1
