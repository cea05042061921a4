# SPDX-License-Identifier: Apache-2.0
"""Loads that were sent to the workers: until when they may turn out to have failed, and whether
loading is worth trying at all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmcache.integration.vllm.request_state import RequestState

log = logging.getLogger("vllm.lmcache")

# After so many failed loads in a row nothing is looked up for so many steps.
_FAILURES_IN_A_ROW = 3
_PAUSE_STEPS = 1000


@dataclass(frozen=True)
class _Sent:
    """A load of `hit` that was sent to the workers in `step`; if it goes well, the request gets to
    `end_token`.
    """

    step: int
    state: RequestState
    hit: Any
    end_token: int
    preemptions: int


class LoadWatch:
    """One thread: the scheduler's. `batches` steps may be under way at once."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._fence = -1
        self._sent: deque[_Sent] = deque()
        self._failures = 0
        self._paused_until = 0

    def sent(self, step: int, state: RequestState, end_token: int) -> None:
        """Note a load that the step waits for."""
        preemptions = int(state.request.num_preemptions)
        self._sent.append(_Sent(step, state, state.hit, end_token, preemptions))
        self._fence = step + self._batches - 1

    def may_fail(self, step: int) -> bool:
        """Whether a load that was sent may still turn out to have failed in this step."""
        return step <= self._fence

    def paused(self, step: int) -> bool:
        """Whether too many loads failed for another one to be tried."""
        return step < self._paused_until

    def settle(self, step: int, on_failed: Callable[[RequestState], None]) -> None:
        """Give back the leases of loads whose step is over, and see whether they went well."""
        while self._sent and self._sent[0].step + self._batches <= step:
            sent = self._sent.popleft()
            state, request = sent.state, sent.state.request
            # A request that lost its blocks since may have been promised another hit already; that
            # one's lease began before this one's ended.
            if state.hit is sent.hit:
                state.release_hit()
            if request.is_finished() or request.num_preemptions != sent.preemptions:
                continue
            failed = state.confirmed_tokens() < sent.end_token
            if failed:
                on_failed(state)
            self.ended(step, failed=failed)

    def ended(self, step: int, *, failed: bool) -> None:
        """Count a load that ended."""
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= _FAILURES_IN_A_ROW:
            self._failures, self._paused_until = 0, step + _PAUSE_STEPS
            log.warning(
                "LMCache: %d loads failed in a row; looking nothing up for %d steps",
                _FAILURES_IN_A_ROW,
                _PAUSE_STEPS,
            )
