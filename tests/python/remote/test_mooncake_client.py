# SPDX-License-Identifier: Apache-2.0
"""A master or a lender that is killed or stopped: every call ends, in time, and holds up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import mooncake_server
import pytest
from mooncake_node import Node, key
from mooncake_peer import content
from mooncake_server import MIB, MooncakeMaster, MooncakePeer
from redis_server import until

from lmcache.errors import LMCacheError, TimedOutError, UnavailableError
from lmcache.remote import mooncake_client
from lmcache.remote.mooncake_client import Lane, batches

REASON = mooncake_server.not_usable()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.multiprocess,
    pytest.mark.timeout(120),
]


@pytest.fixture
def own_master() -> Iterator[MooncakeMaster]:
    running = MooncakeMaster()
    yield running
    running.remove()


@pytest.fixture
def own_lender(own_master: MooncakeMaster) -> Iterator[MooncakePeer]:
    peer = MooncakePeer(own_master.url(lent_bytes=64 * MIB))
    yield peer
    peer.kill()


def test_batches_hold_no_key_twice_and_no_more_than_fit():
    keys = list("abcabbdefg")
    parts = [keys[part] for part in batches(keys, 4)]
    assert parts == [list("abc"), list("ab"), list("bdef"), list("g")]
    assert list(batches([], 4)) == []


def test_a_lane_is_for_one_thread_at_a_time():
    lane = Lane(0.1)
    with lane.taken(), pytest.raises(TimedOutError), lane.taken():
        raise AssertionError
    with lane.taken():
        pass


def test_no_master_is_an_error_at_once_and_making_one_waits_for_nothing():
    began = time.monotonic()
    nowhere = Node(f"mooncakestore://127.0.0.1:{mooncake_server.free_port()}/", timeout_s=5)
    with pytest.raises(UnavailableError):
        nowhere.remote.ping()
    nowhere.remote.close()
    assert time.monotonic() - began < 5


def test_a_killed_master_is_an_error_and_comes_back_empty(own_master, own_lender):
    node = Node(own_master.url(), timeout_s=2)
    assert node.put(1)
    own_master.kill()
    began = time.monotonic()
    for call in (lambda: node.put(2), lambda: node.get(1, 4096), lambda: node.remote.ping()):
        with pytest.raises(LMCacheError):
            call()
    assert time.monotonic() - began < 15  # the first may take Mooncake's own 4.3 s
    own_master.start()
    until(lambda: node.answers(), 60)
    assert node.remote.exists([key(1)]) == [0]
    assert node.get(1, 4096) == b""
    until(lambda: node.put(2), 60)  # when the lender has come back, too
    assert node.get(2, 4096) == content(2, 4096).tobytes()
    node.remote.close()


def test_a_stopped_master_is_an_error_in_time_and_stops_no_thread(own_master, own_lender):
    node = Node(own_master.url(), timeout_s=1)
    late = Node(own_master.url(), timeout_s=1)  # has not connected yet
    assert node.put(1)
    own_master.pause()
    gaps, done = [0.0], threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        for one in (node, node, late):
            for call in (
                lambda one=one: one.put(2),
                lambda one=one: one.get(1, 4096),
                lambda one=one: one.remote.exists([key(1)]),
                lambda one=one: one.remote.clear(),
            ):
                began = time.monotonic()
                with pytest.raises(TimedOutError):
                    call()
                assert time.monotonic() - began < 8
        late.remote.close()
    finally:
        done.set()
        ticking.join()
        own_master.resume()
    assert max(gaps) < 1.5  # nobody held Python's lock meanwhile
    until(lambda: node.answers(), 60)
    until(lambda: node.put(3), 60)
    assert node.get(3, 4096) == content(3, 4096).tobytes()
    node.remote.close()


def test_closing_while_the_master_is_stopped_ends(own_master, own_lender):
    node = Node(own_master.url(lent_bytes=16 * MIB), timeout_s=1)
    node.remote.ping()
    own_master.pause()
    began = time.monotonic()
    node.remote.close()
    assert time.monotonic() - began < 5
    own_master.resume()
    mooncake_client._LEFT_OPEN.pop().close()  # or it would ask for its master until the end


def test_a_lender_that_is_gone_is_a_miss(own_master):
    lender = MooncakePeer(own_master.url(lent_bytes=32 * MIB))
    node = Node(own_master.url(), timeout_s=5)
    assert node.put(1, 2 * MIB)
    lender.kill()
    assert node.get(1, 2 * MIB) == b""
    assert node.put(2, 2 * MIB) is False
    node.remote.close()


def test_a_lender_that_is_stopped_holds_a_call_no_longer_than_the_timeout(own_master):
    # In a process of its own: the deadline of transfers is that of a process's first remote.
    lender = MooncakePeer(own_master.url(lent_bytes=32 * MIB))
    reader = MooncakePeer(own_master.url(), timeout_s=2)
    assert reader.ask("put", key(1), 1, 2 * MIB) == [True]
    lender.pause()
    began = time.monotonic()
    assert reader.ask("get", key(1), 1, 2 * MIB) == [0, False]
    assert reader.ask("put", key(2), 2, 2 * MIB) == [False]
    assert time.monotonic() - began < 20
    lender.resume()
    reader.kill()
    lender.kill()
