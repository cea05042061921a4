# SPDX-License-Identifier: Apache-2.0
"""Making the halves: one per role and process, which never raise once vLLM has started.

vLLM makes a connector twice: beside the scheduler and beside each model runner. The front doors
differ in which calls vLLM passes on; they hold no logic of their own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lmcache.errors import ConfigError
from lmcache.integration.vllm.attachment import Attachment, attach, read_config
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

    def matched_tokens(self, request: Any, computed_tokens: int) -> int:  # noqa: ARG002
        return 0

    def allocated(self, request: Any, external_tokens: int) -> None:
        pass

    def plan_step(self, output: Any) -> StepPlan:  # noqa: ARG002
        return StepPlan()

    def finished(self, request: Any, block_ids: list[int]) -> bool:  # noqa: ARG002
        return False

    def take_report(self, report: WorkerReport) -> None:
        pass

    def reset(self) -> bool:
        return True

    def close(self) -> None:
        pass


def open_scheduler_half(vllm_config: Any, kv_cache_config: Any) -> SchedulerHalf | NoCache:
    """Return the scheduler half of an engine. Raises ConfigError, and nothing else."""
    config = read_config(vllm_config)
    # vLLM's default fails a request whose KV could not be loaded. A cache only loses time.
    vllm_config.kv_transfer_config.kv_load_failure_policy = "recompute"
    attachment, reason = _try_attach(config, vllm_config, kv_cache_config, None)
    if attachment is None:
        if reason:
            log.warning("LMCache: vLLM runs without the cache: %s", reason)
        return NoCache()
    return SchedulerHalf(attachment, config, vllm_config)


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
