# SPDX-License-Identifier: Apache-2.0
"""A decorator over the native engine: one call can fail, and everything else is the real thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class FaultyEngine:
    """Passes every call on, but for those that a test replaced in `faults`: name -> function(real,
    *args).
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._engine, name)
        fault = self.faults.get(name)
        if fault is None:
            return real
        return lambda *arguments: fault(real, *arguments)


class LateCopies:
    """Makes every copy begin as late as it may: when it is waited for, or has been polled often.

    What a correct caller must not rely on, a copy that happens at once, then never happens.
    """

    def __init__(self, engine: FaultyEngine, polls: int = 4) -> None:
        self._polls = polls
        self._begun: dict[int, int] = {}  # our job -> the engine's
        self._waiting: dict[int, tuple[Callable[..., int], tuple[Any, ...]]] = {}
        self._polled: dict[int, int] = {}
        for name in ("submit_store", "submit_load"):
            engine.faults[name] = self._submit
        for name in ("wait", "wait_plane", "cancel_job", "finish"):
            engine.faults[name] = self._after_begin
        engine.faults["poll"] = self._poll

    def _submit(self, real: Callable[..., int], *arguments: Any) -> int:
        job = 1_000_000 + len(self._begun) + len(self._waiting)
        self._waiting[job] = (real, arguments)
        return job

    def _begin(self, job: int) -> int:
        if job in self._waiting:
            real, arguments = self._waiting.pop(job)
            self._begun[job] = real(*arguments)
        return self._begun.get(job, job)  # one that was submitted before is the engine's own

    def _after_begin(self, real: Callable[..., Any], job: int, *arguments: Any) -> Any:
        return real(self._begin(job), *arguments)

    def _poll(self, real: Callable[..., bool], job: int) -> bool:
        self._polled[job] = self._polled.get(job, 0) + 1
        if self._polled[job] <= self._polls and job in self._waiting:
            return False
        return real(self._begin(job))
