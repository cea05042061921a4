# SPDX-License-Identifier: Apache-2.0
"""The requests of one call, on threads, which end with a deadline whatever the store does.

Memory of the caller is touched inside `Batch.memory()` only. When the call ends early, for a
failure or its deadline, requests may still be on their way: they end by themselves later, and
find that memory closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import ParamSpec

from lmcache.errors import TimedOutError, UnavailableError

P = ParamSpec("P")


class EndedError(Exception):
    """The call is over: its memory is no longer ours."""


class Batch:
    """Tasks which may start more of them. Thread-safe."""

    def __init__(self, executor: Executor, timeout_s: float | None) -> None:
        self._executor = executor
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._changed = threading.Condition()  # guards what follows
        self._pending = 0
        self._error: BaseException | None = None
        self._ended = False
        self._memory = threading.Lock()  # held while memory of the caller is read or written

    @property
    def ended(self) -> bool:
        """Whether the call is over, so that nobody waits for the rest."""
        return self._ended

    def start(
        self, function: Callable[P, object], /, *arguments: P.args, **named: P.kwargs
    ) -> None:
        """Run it on a thread, soon."""
        with self._changed:
            self._pending += 1
        try:
            self._executor.submit(self._run, lambda: function(*arguments, **named))
        except RuntimeError:  # shut down
            self._done(UnavailableError("the store is closed"))

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Hold the caller's memory; raises EndedError if the call is over."""
        with self._memory:
            if self._ended:
                raise EndedError
            yield

    def finish(self) -> BaseException | None:
        """Wait for all tasks, the first failure or the deadline; return what went wrong."""
        with self._changed:
            while self._pending and self._error is None:
                left = None if self._deadline is None else self._deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._error = TimedOutError("it does not answer in time")
                    break
                self._changed.wait(left)
        with self._memory:
            self._ended = True
        error, self._error = self._error, None
        return error

    def _run(self, task: Callable[[], object]) -> None:
        error: BaseException | None = None
        if not self._ended:
            try:
                task()
            except EndedError:
                pass
            except BaseException as raised:
                error = raised.with_traceback(None)  # frames hold the caller's memory
        self._done(error)

    def _done(self, error: BaseException | None) -> None:
        with self._changed:
            self._pending -= 1
            if self._error is None and not self._ended:
                self._error = error
            self._changed.notify_all()
