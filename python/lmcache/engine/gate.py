# SPDX-License-Identifier: Apache-2.0
"""Who is inside an engine, so that it closes when the last one has left."""

from __future__ import annotations

import threading
from collections import Counter

from lmcache.errors import ClosedError


class Gate:
    """`with gate:` around each operation; `close()` lets nobody in and waits for those inside.

    A thread that closes the gate from within (a signal handler does) does not wait for itself.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # guards the other members
        self._inside: Counter[int] = Counter()
        self._closed = False

    @property
    def closed(self) -> bool:
        """True from the moment somebody began to close it."""
        return self._closed

    def close(self, timeout_s: float | None = None) -> bool:
        """Wait until no other thread is inside, or for that time; False if it was closed before."""
        with self._changed:
            if self._closed:
                return False
            self._closed = True
            mine = threading.get_ident()
            self._changed.wait_for(
                lambda: all(thread == mine for thread in self._inside), timeout_s
            )
            return True

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise ClosedError("the engine is closed")
            self._inside[threading.get_ident()] += 1

    def __exit__(self, *_: object) -> None:
        mine = threading.get_ident()
        with self._changed:
            self._inside[mine] -= 1
            if not self._inside[mine]:
                del self._inside[mine]
            if self._closed:
                self._changed.notify_all()
