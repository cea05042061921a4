# SPDX-License-Identifier: Apache-2.0
"""Making the halves: one per role and process, which never raise once vLLM has started.

vLLM makes a connector twice: beside the scheduler and beside each model runner. The front doors
differ in which calls vLLM passes on; they hold no logic of their own.
"""

from __future__ import annotations

import atexit
import logging
from typing import TYPE_CHECKING, Any

from lmcache.errors import ConfigError
from lmcache.integration.vllm.attachment import Attachment, attach, read_config
from lmcache.integration.vllm.scheduler import SchedulerHalf
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import StepPlan
from lmcache.integration.vllm.worker import WorkerHalf

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

    def reset(self) -> bool:
        return True

    def close(self) -> None:
        pass


def open_scheduler_half(vllm_config: Any, kv_cache_config: Any) -> SchedulerHalf | NoCache:
    """Return the scheduler half of an engine. Raises ConfigError, and nothing else."""
    config = read_config(vllm_config)
    # vLLM's default fails a request whose KV could not be loaded. A cache only loses time.
    vllm_config.kv_transfer_config.kv_load_failure_policy = "recompute"
    attachment = _try_attach(config, vllm_config, kv_cache_config, None)
    if attachment is None:
        return NoCache()
    half = SchedulerHalf(attachment, config, vllm_config)
    atexit.register(half.close)
    return half


def open_worker_half(vllm_config: Any, kv_cache_config: Any) -> WorkerHalf:
    """Return the worker half of this process's rank. Raises ConfigError, and nothing else."""
    config = read_config(vllm_config)
    rank = int(vllm_config.parallel_config.rank)
    attachment = _try_attach(config, vllm_config, kv_cache_config, rank)
    half = WorkerHalf(attachment, config, vllm_config)
    atexit.register(half.close)  # one of the front doors is never told that vLLM shuts down
    return half


def _try_attach(
    config: LMCacheConfig, vllm_config: Any, kv_cache_config: Any, rank: int | None
) -> Attachment | None:
    if not config.enable_prefix_cache:
        return None
    try:
        return attach(config, vllm_config, kv_cache_config, rank)
    except ConfigError:
        raise
    except Exception as error:
        if (
            rank is None
        ):  # the scheduler speaks for all ranks; a rank that fails alone is heard of by its loads
            log.warning("LMCache: vLLM runs without the cache: %s", error)
        else:
            log.info("LMCache: worker %d is not attached: %s", rank, error)
        return None
