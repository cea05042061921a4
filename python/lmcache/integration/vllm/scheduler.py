# SPDX-License-Identifier: Apache-2.0
"""Scheduler half: looks prefixes up, and plans what the workers copy.

Its rules:
* vLLM asks for the same request until it can schedule it. What was found last stays leased in
  between.
* A token that was promised to vLLM is either in a load plan of the step or reported as lost; never
  neither.
* Only KV that is known to be right is stored: see `store_planner`.
* At least one token is left to compute: its logits are what the request is about.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.fetch_watch import FetchWatch
from lmcache.integration.vllm.load_planner import Promises, plan_load, promised_blocks
from lmcache.integration.vllm.load_room import LoadRoom
from lmcache.integration.vllm.load_watch import LoadWatch
from lmcache.integration.vllm.namespaces import Namespaces
from lmcache.integration.vllm.request_counts import RequestCounts
from lmcache.integration.vllm.request_state import RequestState, is_cacheable
from lmcache.integration.vllm.request_traces import RequestTraces
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import StepPlan, StorePlan, computed_tokens
from lmcache.integration.vllm.store_ledger import StoreLedger
from lmcache.integration.vllm.store_planner import Blocks, StorePlanner
from lmcache.integration.vllm.worker_report import WorkerReport

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.attachment import Attachment

log = logging.getLogger("vllm.lmcache")

# When the last request of an idle engine ends while its copies run, nobody is delayed by waiting
# for them, and the blocks come back before the caller can ask for a reset of vLLM's prefix cache.
_LAST_COPY_WAIT_S = 0.2


class SchedulerHalf:
    """One thread: the scheduler's."""

    def __init__(
        self, attachment: Attachment, config: LMCacheConfig, vllm_config: Any, num_blocks: int
    ) -> None:
        self._attachment = attachment
        self._engine = attachment.engine
        self._has_lower_tier = bool(attachment.engine.has_lower_tier)
        self._geometry = attachment.geometry
        self._config = config
        # Whether requests wait in vLLM's queue for their loads, not in the step that begins them.
        self.loads_ahead = self._geometry.loads_ahead
        self._namespaces = Namespaces(attachment)
        self._ledger = StoreLedger(attachment.engine)
        self._stores = StorePlanner(attachment, config, self._ledger)
        self._states: dict[str, RequestState] = {}
        self._untouched: set[str] = set()
        # Steps that may be under way at once, and whether spoilt KV must be ruled out here.
        batches = compat.concurrent_batches(vllm_config)
        self._ranks = int(vllm_config.parallel_config.world_size)
        self._confirms = batches > 1 or self._ranks > 1
        self._step = 0
        self._block_tables = compat.BlockTables()
        self._loads, self._fetching = LoadWatch(batches), FetchWatch()
        self._ahead: list[RequestState] = []  # requests whose loads the next step begins
        self._promises = Promises(self._states)
        self._room = LoadRoom(attachment.geometry, num_blocks)
        self._carried: list[StorePlan] = []
        self._released: list[str] = []
        self._off = False
        self._workers_gone = False
        self.stats = LMCacheStats()
        self.events = attachment.events
        self._traces = RequestTraces(self._engine, config)
        self._counts = RequestCounts(self._engine, self.stats, has_remote=bool(config.remote_url))

    # Lookup.

    def matched_tokens(self, request: Any, computed_tokens: int) -> int | None:
        """Return how many tokens after the first `computed_tokens` can be loaded for a waiting
        request; None: ask again, they are on their way from disk.
        """
        state = self._states.get(str(request.request_id))
        if state is not None and state.failed_ahead:
            return self._after_failed_load(state)
        try:
            found = 0 if self._off else self._matched_tokens(request, computed_tokens)
        except Exception as error:
            self.give_up("looking a prompt up", error)
            found = 0
        if found is None or not self.loads_ahead:
            return found
        loaded = computed_tokens + found if found else 0
        fits = self._room.fits(str(request.request_id), int(request.num_tokens), loaded)
        return found if fits else None

    def _after_failed_load(self, state: RequestState) -> int | None:
        """Let it compute all, behind those that hold blocks, whom it would keep from going on."""
        state.ahead_blocks = None
        self._room.give(state.request_id)
        return None if self._room.taken else 0

    def _matched_tokens(self, request: Any, computed_tokens: int) -> int | None:
        state = self._state(request)
        if state is None:
            return 0
        state.hash_new_tokens()
        limit = int(request.num_tokens) - 1
        state.asked_tokens = max(0, limit - computed_tokens)
        paused = self._loads.paused(self._step)
        if not compat.reads_prefix_cache(request) or paused or limit < 1:
            state.release_hit()
            self._traces.skipped(state, limit, paused=paused)
            return 0
        waited = 0.0
        if state.fetch is not None:
            if not self._fetching.is_over(state, self._step, self._states.values()):
                return None
            waited = time.monotonic() - state.fetching_since
            self.stats.add(disk_waits=1, disk_wait_seconds=waited)
        hit = self._look_up(state, limit)
        self._traces.found(state, limit=limit, computed=computed_tokens, wait_s=waited)
        if self._fetches(state, int(hit.prefix_tokens), computed_tokens, limit):
            return None
        state.next_chunk = max(state.next_chunk, hit.prefix_tokens // self._geometry.chunk_tokens)
        found = min(int(hit.prefix_tokens), limit) - computed_tokens
        if found <= 0 or found < self._config.min_retrieve_tokens:
            state.release_hit()
            return 0
        state.load_from = computed_tokens
        return found

    def _look_up(self, state: RequestState, limit: int) -> _native.Hit:
        # Asked anew each time, since others may have stored more; the old lease ends after the new
        # one began, and so do those of what came from disk.
        hit = self._engine.lookup(state.namespace, state.prompt, limit)
        state.release_hit()
        state.release_fetch()
        state.hit = hit
        return hit

    def _fetches(self, state: RequestState, hit_tokens: int, computed: int, limit: int) -> bool:
        """Start to bring what follows a hit from disk; True if there is something to wait for.

        vLLM's own cache has `computed` tokens: they weigh nothing, but what lies before the others
        must be in memory to be found.
        """
        if state.fetched or not self._has_lower_tier or max(hit_tokens, computed) >= limit:
            return False
        state.fetched = True
        state.fetching_since = time.monotonic()
        state.fetch = self._engine.fetch(
            state.namespace, state.prompt, hit_tokens, limit, computed_tokens=computed
        )
        if state.fetch is not None:
            self._counts.waits(state.request_id, hit_tokens)
        return state.fetch is not None

    def allocated(self, request: Any, external_tokens: int, blocks: Any = None) -> None:
        """Note that a request was given blocks, the first of which expect so many loaded tokens.

        `blocks` is needed where requests wait in vLLM's queue (`loads_ahead`): it has them all.
        """
        self._room.give(str(request.request_id))
        state = self._states.get(str(request.request_id))
        if state is None:
            self._traces.untouched(request)
            return
        if state.ahead_blocks is not None:  # what it waited for has come
            self._loads.ended(self._step, failed=False)
            state.ahead_blocks = None
            state.release_hit()
            return
        if external_tokens and self.loads_ahead:
            state.ahead_blocks = tuple(blocks.get_block_ids())
            self._ahead.append(state)
            loaded = state.load_from + external_tokens
            self._room.take(state.request_id, int(request.num_tokens), loaded)
        elif external_tokens:
            self._promises.add(state)
        state.load_tokens = external_tokens
        state.release_fetch()
        state.fetched = False  # after a preemption it may try again
        self._traces.admitted(state, external_tokens)
        if state.asked_tokens:
            self._counts.admitted(state, external_tokens)
            if not external_tokens:  # a hit is counted by the worker, which knows what it took
                self._engine.count_request(state.asked_tokens, 0, 0)
        if not external_tokens:
            state.release_hit()
        elif self.events is not None and state.hit is not None:
            self.events.found(request, state.hit)

    def _state(self, request: Any) -> RequestState | None:
        """Return what is known of a request, None for one that is left alone."""
        request_id = str(request.request_id)
        state = self._states.get(request_id)
        if state is not None and state.outdated:
            state = None
        if state is not None or request_id in self._untouched:
            return state
        namespace = self._namespaces.of(request) if is_cacheable(request) else None
        if namespace is None:
            self._untouched.add(request_id)
            return None
        state = RequestState(request, namespace, self._engine.new_prompt(namespace))
        self._states[request_id] = state
        return state

    # One step.

    def plan_step(self, output: Any) -> StepPlan:
        """Return what the workers do in the step that vLLM has just scheduled."""
        self._step += 1
        plan = StepPlan(
            stores=self._carried,
            released=self._released,
            preempted=sorted(output.preempted_req_ids or ()),
        )
        self._carried, self._released = [], []
        blocks = self._block_tables.of(output)
        try:
            self._loads.settle(self._step, self._traces.load_failed)
            self._plan_ahead(plan)
            if self._promises:
                self._plan_loads(plan, output, blocks)
            self._plan_stores(plan, output, blocks)
            if not self._ledger.sweep():
                raise TimeoutError("the workers store nothing any more")
        except Exception as error:
            self.give_up("planning a step", error)
        if self._promises or self._ahead:
            self._plan_losses(plan, output, blocks)
        return plan

    def _plan_loads(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        for state in self._promises.due(output):
            if not self._off:
                load = plan_load(self._geometry, state, blocks.get_block_ids(state.request_id))
                if load is None:
                    continue
                plan.loads.append(load)
                self._loads.sent(self._step, state, state.load_from + load.hit_tokens)

    def _plan_ahead(self, plan: StepPlan) -> None:
        """Plan the loads of requests that wait for them in vLLM's queue."""
        while self._ahead:
            state = self._ahead[-1]
            assert state.ahead_blocks is not None
            load = None if self._off else plan_load(self._geometry, state, state.ahead_blocks)
            self._ahead.pop()
            if load is None:
                self._lose_ahead(plan, state)
            else:
                load.ahead = True
                plan.loads.append(load)

    def _lose_ahead(self, plan: StepPlan, state: RequestState) -> None:
        plan.lost_requests.append(state.request_id)
        state.load_tokens = 0
        state.failed_ahead = True

    def _plan_losses(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        """Report what was promised and will not be loaded."""
        while self._ahead:
            self._lose_ahead(plan, self._ahead.pop())
        for state in self._promises.due(output):
            ids = blocks.get_block_ids(state.request_id)
            plan.lost_blocks += promised_blocks(self._geometry, state, ids)
            state.load_tokens = 0

    def _plan_stores(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        computed = computed_tokens(output)
        fenced = self._confirms and self._loads.may_fail(self._step)
        for request_id, scheduled in output.num_scheduled_tokens.items():
            if scheduled > 1:
                plan.prefill_tokens += scheduled
            state = self._states.get(request_id)
            if state is None or self._off or state.outdated:
                continue
            before = computed[request_id]
            plan.stores += self._stores.after_step(
                self._step, state, before, before + scheduled, blocks, fenced=fenced
            )

    # The end of a request.

    def finished(self, request: Any, block_ids: Blocks) -> bool:
        """Forget a request. True: vLLM keeps its blocks until the workers say that their copies
        ended.
        """
        request_id = str(request.request_id)
        self._untouched.discard(request_id)
        self._traces.forget(request_id)
        self._counts.forget(request_id)
        self._room.give(request_id)
        state = self._states.pop(request_id, None)
        if state is None:
            return False
        try:
            copying = self._still_copying(state, block_ids)
        except Exception as error:
            self.give_up("ending a request", error)
            copying = True  # the workers know
        if copying:
            self._released.append(request_id)
        return copying

    def _still_copying(self, state: RequestState, block_ids: Blocks) -> bool:
        state.release_hit()
        state.release_fetch()
        if state.ended_well() and not self._off:
            last = self._stores.last(state, block_ids)
            if last:
                self._carried += last
                return True
        if self._workers_gone or not self._ledger.pending(state.request_id):
            return False
        if self._states or state.late_step == self._step:
            # Others run, so that a step follows anyway; or the copy may begin only in one.
            return True
        return not self._ledger.wait(state.request_id, _LAST_COPY_WAIT_S)

    def take_failed(self, request_ids: Iterable[str]) -> None:
        """Note requests whose loads ahead failed: vLLM computes them from their beginning."""
        for request_id in request_ids:
            state = self._states.get(request_id)
            if state is not None:
                self._traces.load_failed(state)
                self._loads.ended(self._step, failed=True)
                state.failed_ahead = True
                state.next_chunk = 0
                state.release_hit()

    def take_report(self, report: WorkerReport) -> None:
        """Note what the workers reported after a step."""
        self._ledger.drop(report.dropped_refs)
        if report.ranks_off:
            if report.reasons and not self._off:
                log.warning("LMCache: going on without the cache: %s", "; ".join(report.reasons))
            self._off = True
            self._traces.off_because = "; ".join(report.reasons) or "a worker gave it up"
            self._workers_gone = report.ranks_off == self._ranks

    # What vLLM tells others.

    def take_stats(self) -> LMCacheStats | None:
        """Return what was counted since the last call."""
        return self._counts.take(healthy=not self._off, idle=not self._states)

    def tiers_of(self, request: Any, external_tokens: int) -> dict[str, int]:
        """Return which tiers the tokens came from of a request that has just been given blocks."""
        return self._counts.tiers_of(str(request.request_id), external_tokens)

    # The engine's own events.

    def reset(self) -> bool:
        """Forget everything of this engine's namespaces: the weights changed. False when that
        failed.

        What running requests computed so far is a mixture, so they store nothing until they start
        anew.
        """
        try:
            self._ledger.cancel_all()
            for state in self._states.values():
                state.release_hit()
                state.release_fetch()
                state.outdated = True
            removed = sum(self._engine.clear(namespace) for namespace in self._namespaces.renew())
        except Exception as error:
            self.give_up("clearing the cache", error)
            return False
        log.info("LMCache: cleared, %d chunks removed", removed)
        return True

    def give_up(self, doing: str, error: Exception) -> None:
        """Go on without the cache: nothing is looked up or stored any more. Says so once."""
        if not self._off:
            self._off = True
            self._traces.off_because = f"{doing} failed: {error}"
            log.warning("LMCache: %s failed, going on without the cache: %s", doing, error)

    def close(self) -> None:
        """Give back every lease and reservation, and detach."""
        for state in self._states.values():
            state.release_hit()
            state.release_fetch()
        self._states.clear()
        self._off = True
        self._engine.close()
