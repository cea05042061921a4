# SPDX-License-Identifier: Apache-2.0
"""A second process of a measurement: it ends with the first one, and says nothing about Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess


@contextlib.contextmanager
def running(process: SpawnProcess) -> Iterator[None]:
    """Start the process; end it when the block is left.

    A terminal sends Ctrl-C to both. The child inherits that it is blocked, so that not even its
    start, which imports everything, is interrupted with a traceback.
    """
    resource_tracker.ensure_running()  # when it starts, it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield
    finally:
        if process.pid is not None:
            process.terminate()
            process.join()
