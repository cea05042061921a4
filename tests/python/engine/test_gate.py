# SPDX-License-Identifier: Apache-2.0
"""A gate closes behind the last one inside."""

from __future__ import annotations

import threading

import pytest

from lmcache.engine.gate import Gate
from lmcache.errors import ClosedError


def test_nobody_enters_a_closed_gate() -> None:
    gate = Gate()
    with gate:
        assert not gate.closed
    assert gate.close()
    assert gate.closed
    assert not gate.close()
    with pytest.raises(ClosedError), gate:
        pass


def test_closing_waits_for_other_threads() -> None:
    gate, inside, leave = Gate(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with gate, gate:
            inside.set()
            leave.wait(10)
            order.append("left")

    def close() -> None:
        gate.close()
        order.append("closed")

    worker, closer = threading.Thread(target=work), threading.Thread(target=close)
    worker.start()
    inside.wait(10)
    closer.start()
    while not gate.closed:
        leave.wait(0.001)
    with pytest.raises(ClosedError), gate:
        pass
    leave.set()
    worker.join()
    closer.join()
    assert order == ["left", "closed"]


def test_a_thread_inside_does_not_wait_for_itself() -> None:
    gate = Gate()
    with gate:
        assert gate.close()
    assert gate.closed


def test_closing_waits_for_no_longer_than_it_is_told() -> None:
    gate, inside, leave = Gate(), threading.Event(), threading.Event()

    def work() -> None:
        with gate:
            inside.set()
            leave.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait(10)
    assert gate.close(timeout_s=0.01)
    assert worker.is_alive()
    leave.set()
    worker.join()
