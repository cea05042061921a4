# SPDX-License-Identifier: Apache-2.0
"""A measurement that is told to stop takes away what it made, then ends as the signal says."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _StoppedError(BaseException):
    """Passes through everything that handles errors."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _frame: FrameType | None) -> None:
    # What cleans up is not disturbed by a second one.
    for which in _SIGNALS:
        signal.signal(which, signal.SIG_IGN)
    raise _StoppedError(number)


@contextmanager
def ends_cleanly() -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into an exception here, and at last into exit status 130 or
    143. Further ones count for nothing, until the process has ended.
    """
    before = {which: signal.signal(which, _stop) for which in _SIGNALS}
    try:
        yield
    except _StoppedError as stopped:
        raise typer.Exit(128 + stopped.number) from None
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:
            for which, handler in before.items():
                signal.signal(which, handler)
