# SPDX-License-Identifier: Apache-2.0
"""The second process of a measurement."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

import pytest

from lmcache.bench.measuring_process import running


def _wait(ready: Connection) -> None:
    ready.send("ready")
    time.sleep(60)


@pytest.mark.multiprocess
def test_it_neither_hears_ctrl_c_nor_outlives_the_block(
    capfd: pytest.CaptureFixture[str],
) -> None:
    context = multiprocessing.get_context("spawn")
    end, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_wait, args=(theirs,), daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with running(process):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
        # From its very start.
        for _ in range(20):
            os.kill(process.pid or 0, signal.SIGINT)
            time.sleep(0.005)
        assert end.poll(30)
        os.kill(process.pid or 0, signal.SIGINT)
        assert process.is_alive()
    assert process.exitcode == -signal.SIGTERM
    assert capfd.readouterr().err == ""
