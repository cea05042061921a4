# SPDX-License-Identifier: Apache-2.0
"""How long steps take that compute prompts, in the time of the device they run on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lmcache.integration.vllm.device_stream import DeviceStream

# A step of fewer prompt tokens says little about how fast prefill is.
_MEASURED_TOKENS = 64


class _Span(NamedTuple):
    tokens: int
    begin: Any
    end: Any


class PrefillSpeed:
    """One thread: the model runner's."""

    def __init__(self) -> None:
        self._tokens = 0  # of the step that is being measured; 0: it is not
        self._began: Any = None
        self._open: deque[_Span] = deque()  # steps whose end the device has not reached

    @property
    def waits(self) -> bool:
        """Whether there are steps whose end the device had not reached."""
        return bool(self._open)

    def begin(self, stream: DeviceStream, prefill_tokens: int) -> None:
        """A step begins that computes so many tokens of prompts."""
        self._tokens = prefill_tokens if prefill_tokens >= _MEASURED_TOKENS else 0
        if self._tokens:
            self._began = stream.mark()

    def drop(self) -> None:
        """What this step takes says nothing."""
        self._tokens = 0

    def end(self, stream: DeviceStream) -> list[tuple[int, float]]:
        """The step has been called in full. Return tokens and seconds of the steps whose end is
        known by now, each once.
        """
        if self._tokens:
            self._open.append(_Span(self._tokens, self._began, stream.mark()))
            self._tokens = 0
        known = []
        while self._open:
            span = self._open[0]
            seconds = stream.seconds(span.begin, span.end)
            if seconds is None:
                break
            known.append((span.tokens, seconds))
            self._open.popleft()
        return known
