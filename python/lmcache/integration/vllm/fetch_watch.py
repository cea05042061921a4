# SPDX-License-Identifier: Apache-2.0
"""Which of the requests in vLLM's queue wait no more for what is fetched from disk or remote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.request_state import RequestState


class FetchWatch:
    """Looks at all of them when the first is asked for in a step.

    Of several that wait for the same, those that vLLM asks for just before it arrives would
    otherwise be a whole step later than the others.
    """

    def __init__(self) -> None:
        self._step = -1
        self._over: set[str] = set()

    def is_over(self, state: RequestState, step: int, states: Iterable[RequestState]) -> bool:
        """Return whether the fetch of a request was over when the step was begun to be planned."""
        if self._step != step:
            self._step = step
            waiting = [(s.request_id, s.fetch) for s in states if s.fetch is not None]
            self._over = _over(waiting)
            if self._over:  # what came while we looked was too late for the first of them
                self._over |= _over(waiting)
        return state.request_id in self._over


def _over(waiting: list[tuple[str, _native.Fetch]]) -> set[str]:
    return {request_id for request_id, fetch in waiting if fetch.done()}
