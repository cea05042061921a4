# SPDX-License-Identifier: Apache-2.0
"""Making the halves: one per role and process, which never raise once vLLM has started.

vLLM makes a connector twice: beside the scheduler and beside each model runner. The front doors
differ in which calls vLLM passes on; they hold no logic of their own.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmcache.errors import ConfigError
from lmcache.integration.vllm.attachment import Attachment, attach, read_config
from lmcache.integration.vllm.failure_policy import settle_policy
from lmcache.integration.vllm.kv_events import open_events
from lmcache.integration.vllm.scheduler import SchedulerHalf
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import StepPlan
from lmcache.integration.vllm.worker import WorkerHalf
from lmcache.integration.vllm.worker_report import WorkerReport

if TYPE_CHECKING:
    from lmcache.config import LMCacheConfig

log = logging.getLogger("vllm.lmcache")


class NoCache:
    """Scheduler half of an engine that runs without the cache: finds nothing, plans nothing."""

    def __init__(self) -> None:
        self.stats = LMCacheStats()
        self.stats.put(healthy=0.0)
        self.events = None
        self.loads_ahead = False

    def matched_tokens(self, request: Any, computed_tokens: int) -> int:  # noqa: ARG002
        return 0

    def allocated(self, request: Any, external_tokens: int, blocks: Any = None) -> None:
        pass

    def take_failed(self, request_ids: Any) -> None:
        pass

    def plan_step(self, output: Any) -> StepPlan:  # noqa: ARG002
        return StepPlan()

    def finished(self, request: Any, block_ids: Any) -> bool:  # noqa: ARG002
        return False

    def take_report(self, report: WorkerReport) -> None:
        pass

    def take_stats(self) -> LMCacheStats | None:
        return self.stats.take()

    def tiers_of(self, request: Any, external_tokens: int) -> dict[str, int]:  # noqa: ARG002
        return {}

    def reset(self) -> bool:
        return True

    def close(self) -> None:
        pass


def open_scheduler_half(vllm_config: Any, kv_cache_config: Any) -> SchedulerHalf | NoCache:
    """Return the scheduler half of an engine. Raises ConfigError, and nothing else."""
    config = read_config(vllm_config)
    for line in config.warnings:  # here, so that it is said once for an engine
        log.warning("LMCache: %s", line)
    if settle_policy(vllm_config.kv_transfer_config) == "fail":
        log.info("LMCache: requests whose KV cannot be loaded fail: kv_load_failure_policy is set")
    attachment, reason = _try_attach(config, vllm_config, kv_cache_config, None)
    if attachment is None:
        if reason:
            log.warning("LMCache: vLLM runs without the cache: %s", reason)
        return NoCache()
    events = open_events(attachment, vllm_config, kv_cache_config)
    if events is not None:
        attachment = replace(attachment, events=events)
    return SchedulerHalf(attachment, config, vllm_config, int(kv_cache_config.num_blocks))


def open_worker_half(vllm_config: Any, kv_cache_config: Any) -> WorkerHalf:
    """Return the worker half of this process's rank. Raises ConfigError, and nothing else."""
    config = read_config(vllm_config)
    rank = int(vllm_config.parallel_config.rank)
    attachment, reason = _try_attach(config, vllm_config, kv_cache_config, rank)
    if (
        reason
    ):  # told to the scheduler half, which has its own reason as a rule and then speaks for all
        reason = f"worker {rank}: {reason}"
        log.info("LMCache: %s", reason)
    return WorkerHalf(attachment, config, vllm_config, reason)


def _try_attach(
    config: LMCacheConfig, vllm_config: Any, kv_cache_config: Any, rank: int | None
) -> tuple[Attachment | None, str]:
    """Return an attachment, or None and why. Without a reason the user does not want one."""
    if not config.enable_prefix_cache:
        return None, ""
    try:
        return attach(config, vllm_config, kv_cache_config, rank), ""
    except ConfigError:
        raise
    except Exception as error:
        return None, str(error)
