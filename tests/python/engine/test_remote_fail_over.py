# SPDX-License-Identifier: Apache-2.0
"""Two processes with engines of their own store and read while their cluster moves slots, and
while their master dies: whatever they find is right, and later they find everything again.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cache_process import CacheProcess
from redis_cluster import RedisCluster
from redis_sentinel import WatchedRedis
from redis_server import INSTALLED, NOT_INSTALLED, until

PROMPTS = 16
TOKENS = 200  # 13 chunks
LATE_S = 20  # of a call that takes milliseconds, and at most as long as the deadlines below
SETTINGS = {
    "load_policy": "always",
    "remote_lookup_timeout_ms": 2000,
    "remote_lookup_kept_ms": 20,
    "blocking_timeout_secs": 5,
}

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED),
    pytest.mark.multiprocess,
]


def prompt(number: int) -> list[int]:
    return [number, *range(1, TOKENS)]


class Instances:
    """One that stores, one that reads; neither has in memory what it did before."""

    def __init__(self, url: str) -> None:
        self.writer = CacheProcess("private", remote_url=url, **SETTINGS)
        self.reader = CacheProcess("private", remote_url=url, **SETTINGS)
        for process in (self.writer, self.reader):
            until(lambda process=process: is_connected(process))  # type: ignore[misc]
        self.asked = self.found = self.rounds = 0

    def store(self, number: int) -> None:
        """Store anew; that the store is there or not makes no difference to it."""
        in_time(lambda: self.writer.clear())
        assert in_time(lambda: self.writer.store(prompt(number))) == TOKENS
        in_time(lambda: self.writer.flush(), 60 + LATE_S)  # its own patience is a minute

    def read(self, number: int) -> int:
        """Read; return the tokens that were found, and were right."""
        in_time(lambda: self.reader.clear())
        found, right = in_time(lambda: self.reader.retrieve(prompt(number)))
        assert right, (number, found)
        self.asked += TOKENS
        self.found += found
        return int(found)

    def serve_while(self, going_on: Callable[[], bool]) -> float:
        """Let both work at the same time; return which share of the tokens was found."""
        self.asked = self.found = self.rounds = 0
        with ThreadPoolExecutor(1) as other:
            while going_on():
                storing = other.submit(self.store, PROMPTS + self.rounds)
                for number in range(PROMPTS):
                    self.read(number)
                storing.result()
                self.rounds += 1
        return self.found / max(1, self.asked)

    def all_is_found(self) -> bool:
        return all(self.read(number) == TOKENS for number in range(PROMPTS))

    def trouble(self) -> tuple[int, int]:
        """Return how often requests failed, and chunks were damaged."""
        stats = [process.stats() for process in (self.writer, self.reader)]
        counts = [process.status()["total"] for process in (self.writer, self.reader)]
        return (
            sum(sum(it["failures"].values()) for it in stats),
            sum(it["remote_corrupt_chunks"] for it in counts),
        )

    def close(self) -> None:
        for process in (self.writer, self.reader):
            process.__exit__()


def in_time(call: Callable[[], Any], limit_s: float = LATE_S) -> Any:
    began = time.monotonic()
    result = call()
    assert time.monotonic() - began < limit_s
    return result


def is_connected(process: CacheProcess) -> bool:
    return process.status()["processes"][0]["remote_state"] == "connected"


@pytest.fixture
def open_instances() -> Iterator[Callable[[str], Instances]]:
    opened: list[Instances] = []

    def start(url: str) -> Instances:
        opened.append(Instances(url))
        return opened[-1]

    yield start
    for instances in opened:
        instances.close()


def fill(instances: Instances) -> None:
    for number in range(PROMPTS):
        instances.store(number)
    assert instances.all_is_found()


def test_slots_move_while_requests_run(open_instances: Any) -> None:
    with RedisCluster() as cluster:
        instances = open_instances(cluster.url)
        fill(instances)
        slots = cluster.slots_of_chunks(0)
        moved = 0
        ended = threading.Event()
        errors = []

        def move_all() -> None:
            nonlocal moved
            try:
                for slot in slots:
                    move = (slot, 0, 1 + slot % 2)
                    steps = (cluster.begin_move, cluster.move_keys, cluster.end_move)
                    for step in steps:
                        rounds = instances.rounds
                        step(*move)
                        # Now and then, at each of the three, everything is read before the next.
                        while moved % 16 == 0 and instances.rounds < rounds + 2:
                            time.sleep(0.01)
                    moved += 1
            except Exception as error:  # that of a thread is seen by nobody
                errors.append(error)
            finally:
                ended.set()

        mover = threading.Thread(target=move_all)
        mover.start()
        share = instances.serve_while(lambda: not ended.is_set())
        mover.join()
        assert errors == []
        assert moved == len(slots) > 30
        print(
            f"\n{moved} slots moved in {instances.rounds} rounds, {share:.3f} of the tokens found"
        )
        # A key that is on its way is answered TRYAGAIN or not at all: rare.
        assert share > 0.5
        until(instances.all_is_found)
        instances.store(10_000)
        until(lambda: instances.read(10_000) == TOKENS)
        assert instances.rounds > 0
        assert set(slots) & set(cluster.slots_of_chunks(0)) == set()
        assert instances.trouble() == (0, 0)


def test_the_master_dies_while_requests_run(open_instances: Any) -> None:
    with WatchedRedis() as watched:
        instances = open_instances(watched.url)
        fill(instances)
        until(watched.is_replicated)
        before = instances.serve_while(lambda: instances.rounds < 2)
        assert before == 1.0
        watched.master.stop()  # SIGKILL
        promoted = threading.Event()

        def watch() -> None:
            until(lambda: watched.replica.client().role()[0] == b"master")
            promoted.set()

        with ThreadPoolExecutor(1) as other:
            watching = other.submit(watch)
            during = instances.serve_while(lambda: not promoted.is_set())
            watching.result()
        assert during < 1.0  # or nobody noticed, and nothing was tested
        # They find the new master by themselves, and what the old one had.
        until(instances.all_is_found, 60)
        # The writer as well, whose pause before it tries again may be longer by now.
        numbers = itertools.count(20_000)

        def new_is_found() -> bool:
            instances.store(number := next(numbers))
            return instances.read(number) == TOKENS

        until(new_is_found, 60)
        assert instances.trouble() == (0, 0)
        assert len(watched.replica.chunks()) > PROMPTS
