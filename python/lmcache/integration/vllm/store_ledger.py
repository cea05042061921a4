# SPDX-License-Identifier: Apache-2.0
"""Reservations that were sent to the workers and are not published yet.

The scheduler half reads in shared memory when a copy has ended, so most requests give their blocks
back at once, with no message from a worker. What a worker never wrote is given back after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmcache import _native

# Far above any copy. Only a worker that died or lost its engine leaves a reservation unwritten so
# long.
ABANDONED_AFTER_S = 60.0
_SWEEP_EVERY_S = 10.0


class StoreLedger:
    """One thread: the scheduler's."""

    def __init__(
        self,
        engine: _native.Engine,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._sleep = sleep
        # Request -> (slot, when it was reserved).
        self._open: dict[str, list[tuple[int, float]]] = {}
        self._next_sweep = clock() + _SWEEP_EVERY_S
        self._last_ready = clock()

    def add(self, request_id: str, refs: Iterable[int]) -> None:
        """Note that the workers were told to fill these slots."""
        now = self._clock()
        self._open.setdefault(request_id, []).extend((ref, now) for ref in refs if ref)

    def pending(self, request_id: str) -> bool:
        """Whether a copy out of the blocks of a request may still be running."""
        entries = self._open.get(request_id, [])
        left = [entry for entry in entries if not self._engine.is_ready(entry[0])]
        if len(left) < len(entries):
            self._last_ready = self._clock()
        self._keep(request_id, left)
        return bool(left)

    def drop(self, refs: Iterable[int]) -> None:
        """Note that a worker will not fill these slots."""
        gone = set(refs)
        for request_id, entries in list(self._open.items()):
            self._keep(request_id, [entry for entry in entries if entry[0] not in gone])

    def _keep(self, request_id: str, entries: list[tuple[int, float]]) -> None:
        if entries:
            self._open[request_id] = entries
        else:
            self._open.pop(request_id, None)

    def wait(self, request_id: str, timeout_s: float) -> bool:
        """Wait until no copy of a request is running; False when the time is up."""
        deadline = self._clock() + timeout_s
        while self.pending(request_id):
            if self._clock() >= deadline:
                return False
            self._sleep(0.0005)
        return True

    def sweep(self) -> bool:
        """Give back what nobody wrote; looks only now and then.

        False: for so long nothing at all was written that the workers must have lost the cache.
        """
        now = self._clock()
        if now < self._next_sweep:
            return True
        self._next_sweep = now + _SWEEP_EVERY_S
        for request_id in list(self._open):
            self.pending(request_id)
        long_ago = now - ABANDONED_AFTER_S
        dead = [
            ref for entries in self._open.values() for ref, since in entries if since < long_ago
        ]
        if not dead:
            return True
        self._engine.cancel(dead)
        self.drop(dead)
        return self._last_ready >= long_ago

    def cancel_all(self) -> None:
        """Give back what no worker has begun to write; what one has is still watched."""
        refs = [ref for entries in self._open.values() for ref, _ in entries]
        if refs:
            self._engine.cancel(refs)
