# SPDX-License-Identifier: Apache-2.0
"""Which copies may still be running, read from the slots alone."""

from __future__ import annotations

import pytest

from lmcache.integration.vllm.store_ledger import ABANDONED_AFTER_S, StoreLedger


class Slots:
    """An engine of which only the readiness of slots is asked."""

    def __init__(self):
        self.ready: set[int] = set()
        self.cancelled: list[int] = []
        self.now = 0.0

    def is_ready(self, ref):
        return ref in self.ready

    def cancel(self, refs):
        self.cancelled += refs

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def slots():
    return Slots()


@pytest.fixture
def ledger(slots):
    return StoreLedger(slots, clock=lambda: slots.now, sleep=slots.sleep)


def test_pending_until_all_slots_are_ready(ledger, slots):
    assert not ledger.pending("r")
    ledger.add("r", [1, 0, 2])
    slots.ready.add(1)
    assert ledger.pending("r")
    slots.ready.add(2)
    assert not ledger.pending("r")


def test_a_slot_that_was_evicted_after_it_was_seen_ready_is_not_pending_again(ledger, slots):
    ledger.add("r", [1, 2])
    slots.ready.add(1)
    assert ledger.pending("r")
    slots.ready = {2}
    assert not ledger.pending("r")


def test_waiting_ends_with_the_copies_or_the_time(ledger, slots):
    ledger.add("r", [1])
    assert not ledger.wait("r", 0.1)
    assert 0.1 <= slots.now < 0.2
    slots.ready.add(1)
    assert ledger.wait("r", 0.1)


def test_what_nobody_wrote_is_given_back(ledger, slots):
    ledger.add("r", [1, 2])
    assert ledger.sweep()
    slots.now = ABANDONED_AFTER_S + 20
    ledger.add("s", [3])
    slots.ready.add(1)
    assert ledger.sweep()
    assert slots.cancelled == [2]
    assert not ledger.pending("r")
    assert ledger.pending("s")


def test_workers_that_write_nothing_at_all_are_noticed(ledger, slots):
    ledger.add("r", [1])
    slots.now = ABANDONED_AFTER_S / 2
    assert ledger.sweep()
    slots.now = ABANDONED_AFTER_S + 20
    assert not ledger.sweep()


def test_what_a_worker_will_not_write_is_not_waited_for(ledger):
    ledger.add("r", [1, 2])
    ledger.drop([1])
    assert ledger.pending("r")
    ledger.drop([2, 7])
    assert not ledger.pending("r")


def test_cancelled_reservations_are_still_watched(ledger, slots):
    ledger.add("r", [1])
    ledger.cancel_all()
    assert slots.cancelled == [1]
    assert ledger.pending("r")  # a worker may be writing it
