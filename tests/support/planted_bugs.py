# SPDX-License-Identifier: Apache-2.0
"""Bugs that the differential test must find: each as one function that breaks the connector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.integration.vllm import scheduler as scheduler_module
from lmcache.integration.vllm.async_loads import AsyncLoads
from lmcache.integration.vllm.namespaces import Namespaces
from lmcache.integration.vllm.scheduler import SchedulerHalf
from lmcache.integration.vllm.store_jobs import StoreJobs
from lmcache.integration.vllm.store_planner import StorePlanner

Plant = Callable[[pytest.MonkeyPatch], None]


def blocks_freed_early(patch: pytest.MonkeyPatch) -> None:
    """vLLM gets the blocks of a finished request while they are still copied from."""
    real = SchedulerHalf._still_copying

    def never(self: Any, *arguments: Any) -> bool:
        real(self, *arguments)
        return False

    patch.setattr(SchedulerHalf, "_still_copying", never)


def load_ended_early(patch: pytest.MonkeyPatch) -> None:
    """A request is said to have its blocks before the load has begun."""
    patch.setattr(AsyncLoads, "_over", lambda self, waiting: True)


def stale_load_mapping(patch: pytest.MonkeyPatch) -> None:
    """After a preemption, loads go to the blocks that the request had before."""
    real = scheduler_module.plan_load
    had: dict[str, Any] = {}

    def plan(geometry: Any, state: Any, blocks: Any) -> Any:
        return real(geometry, state, _first_seen(had, state.request_id, blocks))

    patch.setattr(scheduler_module, "plan_load", plan)


def stale_store_mapping(patch: pytest.MonkeyPatch) -> None:
    """After a preemption, stores read the blocks that the request had before."""
    real = StorePlanner.reserve
    had: dict[str, Any] = {}

    def reserve(self: Any, state: Any, end: int, blocks: Any, **options: Any) -> Any:
        return real(self, state, end, _first_seen(had, state.request_id, blocks), **options)

    patch.setattr(StorePlanner, "reserve", reserve)


def _first_seen(had: dict[str, Any], request_id: str, blocks: Any) -> Any:
    """Return what a request's blocks were at first, and what it has got since."""
    old = had.setdefault(request_id, tuple(list(ids) for ids in blocks))
    return tuple(
        [*before[: len(now)], *now[len(before) :]] for before, now in zip(old, blocks, strict=True)
    )


def keys_without_adapter(patch: pytest.MonkeyPatch) -> None:
    """What one LoRA adapter computed is found by another."""
    patch.setattr(Namespaces, "_adapter", lambda self, lora: "")


def windows_not_settled(patch: pytest.MonkeyPatch) -> None:
    """vLLM takes the blocks that a window has passed while they are still copied from."""
    patch.setattr(StoreJobs, "settle_windows", lambda self, deadline_s: None)


def preempted_not_settled(patch: pytest.MonkeyPatch) -> None:
    """vLLM takes the blocks of a preempted request while they are still copied from."""
    patch.setattr(StoreJobs, "settle", lambda self, request_ids, deadline_s: None)


def spoilt_is_stored(patch: pytest.MonkeyPatch) -> None:
    """What a step computed on top of a failed load is stored."""
    real = StoreJobs.start

    def start(self: Any, views: Any, store: Any, *, spoilt: bool) -> None:
        real(self, views, store, spoilt=False)

    patch.setattr(StoreJobs, "start", start)


BUGS: dict[str, tuple[str, Plant]] = {
    "a block freed early": ("drawn answers, late copies", blocks_freed_early),
    "a stale slot mapping": ("prompts in parts, adapters", stale_load_mapping),
    "a key without LoRA": ("prompts in parts, adapters", keys_without_adapter),
    "a stale slot mapping of a store": ("drawn answers, late copies", stale_store_mapping),
    "a preempted block taken early": ("drawn answers, late copies", preempted_not_settled),
    "spoilt KV stored": ("loads that fail", spoilt_is_stored),
    "a block of a window taken early": ("windows, late copies", windows_not_settled),
    "a load ended early": ("windows, late copies", load_ended_early),
}
