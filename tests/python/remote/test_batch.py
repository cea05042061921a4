# SPDX-License-Identifier: Apache-2.0
"""The tasks of one call: more of them, failures, deadlines, and memory that is let go."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmcache.errors import TimedOutError, UnavailableError
from lmcache.remote.batch import Batch


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_tasks_start_tasks_and_all_are_waited_for(threads):
    batch, done = Batch(threads, 30), []

    def task(depth: int) -> None:
        if depth:
            batch.start(task, depth - 1)
            batch.start(task, depth - 1)
        with batch.memory():
            done.append(depth)

    batch.start(task, 5)
    assert batch.finish() is None
    assert len(done) == 2**6 - 1


def test_the_first_failure_ends_it_and_closes_the_memory(threads):
    batch, go, touched = Batch(threads, 30), threading.Event(), []

    def slow() -> None:
        go.wait()
        with batch.memory():
            touched.append(1)

    def fails() -> None:
        raise OSError("first")

    batch.start(slow)
    batch.start(fails)
    error = batch.finish()
    assert isinstance(error, OSError)
    assert error.__traceback__ is None
    go.set()
    threads.shutdown()
    assert touched == []


def test_the_deadline_ends_it_with_tasks_running_and_waiting(threads):
    batch, go, ran = Batch(threads, 0.2), threading.Event(), []
    began = time.monotonic()
    for _ in range(2):
        batch.start(go.wait)
    batch.start(ran.append, 1)
    assert isinstance(batch.finish(), TimedOutError)
    assert time.monotonic() - began < 5
    assert batch.ended
    go.set()
    threads.shutdown()
    assert ran == []


def test_finish_waits_for_memory_in_use(threads):
    batch, inside, order = Batch(threads, 0.1), threading.Event(), []

    def copies() -> None:
        with batch.memory():
            inside.set()
            time.sleep(0.4)
            order.append("copied")

    batch.start(copies)
    inside.wait()
    assert isinstance(batch.finish(), TimedOutError)
    order.append("returned")
    assert order == ["copied", "returned"]


def test_closed_threads_are_a_failure(threads):
    threads.shutdown()
    batch = Batch(threads, 30)
    batch.start(print)
    assert isinstance(batch.finish(), UnavailableError)
