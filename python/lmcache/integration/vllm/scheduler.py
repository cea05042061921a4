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
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm.namespaces import Namespaces
from lmcache.integration.vllm.request_state import RequestState, is_cacheable
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import LoadPlan, StepPlan, StorePlan
from lmcache.integration.vllm.store_ledger import StoreLedger
from lmcache.integration.vllm.store_planner import StorePlanner
from lmcache.integration.vllm.worker_report import WorkerReport

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.attachment import Attachment

log = logging.getLogger("vllm.lmcache")

# When the last request of an idle engine ends while its copies run, nobody is delayed by waiting
# for them, and the blocks come back before the caller can ask for a reset of vLLM's prefix cache.
_LAST_COPY_WAIT_S = 0.2
# After so many failed loads in a row nothing is looked up for so many steps.
_FAILURES_IN_A_ROW = 3
_PAUSE_STEPS = 1000


@dataclass(frozen=True)
class _Loading:
    """A load that was sent to the workers in `step`; if it goes well, the request gets to
    `end_token`.
    """

    step: int
    state: RequestState
    end_token: int
    preemptions: int


class SchedulerHalf:
    """One thread: the scheduler's."""

    def __init__(self, attachment: Attachment, config: LMCacheConfig, vllm_config: Any) -> None:
        self._attachment = attachment
        self._engine = attachment.engine
        self._has_lower_tier = bool(attachment.engine.has_lower_tier)
        self._geometry = attachment.geometry
        self._config = config
        self._namespaces = Namespaces(attachment)
        self._ledger = StoreLedger(attachment.engine)
        self._stores = StorePlanner(attachment, config, self._ledger)
        self._states: dict[str, RequestState] = {}
        self._untouched: set[str] = set()
        # Steps that may be under way at once, and whether spoilt KV must be ruled out here.
        self._batches = int(vllm_config.max_concurrent_batches)
        self._ranks = int(vllm_config.parallel_config.world_size)
        self._confirms = self._batches > 1 or self._ranks > 1
        self._step = 0
        self._fence = -1  # up to this step, a load that was sent may turn out to have failed
        self._loading: deque[_Loading] = deque()
        self._carried: list[StorePlan] = []
        self._released: list[str] = []
        self._failures = 0
        self._paused_until = 0
        self._off = False
        self._workers_gone = False
        self.stats = LMCacheStats()

    # Lookup.

    def matched_tokens(self, request: Any, computed_tokens: int) -> int | None:
        """Return how many tokens after the first `computed_tokens` can be loaded for a waiting
        request; None: ask again, they are on their way from disk.
        """
        try:
            return 0 if self._off else self._matched_tokens(request, computed_tokens)
        except Exception as error:
            self.give_up("looking a prompt up", error)
            return 0

    def _matched_tokens(self, request: Any, computed_tokens: int) -> int | None:
        state = self._state(request)
        if state is None:
            return 0
        state.hash_new_tokens()
        limit = int(request.num_tokens) - 1
        state.asked_tokens = max(0, limit - computed_tokens)
        if request.skip_reading_prefix_cache or self._step < self._paused_until or limit < 1:
            state.release_hit()
            return 0
        if state.fetch is not None:
            if not state.fetch.done():
                return None
            waited = time.monotonic() - state.fetching_since
            self.stats.add(disk_waits=1, disk_wait_seconds=waited)
        hit = self._look_up(state, limit)
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
        return state.fetch is not None

    def allocated(self, request: Any, external_tokens: int) -> None:
        """Note that vLLM has given a request blocks, the first of which expect so many loaded
        tokens.
        """
        state = self._states.get(str(request.request_id))
        if state is None:
            return
        state.load_tokens = external_tokens
        state.release_fetch()
        state.fetched = False  # after a preemption it may try again
        if state.asked_tokens:
            self.stats.add(lookups=1, lookup_tokens=state.asked_tokens, hit_tokens=external_tokens)
            if not external_tokens:  # a hit is counted by the worker, which knows what it took
                self._engine.count_request(state.asked_tokens, 0, 0)
        if not external_tokens:
            state.release_hit()

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
        blocks = output.kv_connector_block_state
        try:
            self._settle_loads()
            self._plan_loads(plan, output, blocks)
            self._plan_stores(plan, output, blocks)
            if not self._ledger.sweep():
                raise TimeoutError("the workers store nothing any more")
        except Exception as error:
            self.give_up("planning a step", error)
        self._plan_losses(plan, output, blocks)
        return plan

    def _plan_loads(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        for request_id in output.num_scheduled_tokens:
            state = self._states.get(request_id)
            if state is not None and state.load_tokens and not self._off:
                self._plan_load(plan, state, blocks.get_block_ids(request_id)[0])
        if plan.loads:
            self._fence = self._step + self._batches - 1

    def _plan_losses(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        """Report what was promised and will not be loaded."""
        for request_id in output.num_scheduled_tokens:
            state = self._states.get(request_id)
            if state is not None and state.load_tokens:
                block = self._geometry.block_tokens
                first, end = (
                    state.load_from // block,
                    -(-(state.load_from + state.load_tokens) // block),
                )
                plan.lost_blocks += blocks.get_block_ids(request_id)[0][first:end]
                state.load_tokens = 0

    def _plan_load(self, plan: StepPlan, state: RequestState, blocks: list[int]) -> None:
        block, chunk = self._geometry.block_tokens, self._geometry.chunk_tokens
        begin, end = state.load_from, state.load_from + state.load_tokens
        hit = state.hit
        if hit is None or hit.prefix_tokens < end:
            return
        pieces = range(begin // chunk, -(-end // chunk))
        load = LoadPlan(
            request_id=state.request_id,
            refs=[
                [refs[piece] for piece in pieces]
                for refs in (hit.refs(lane) for lane in range(self._geometry.lanes))
            ],
            first_blocks=[max(0, begin - piece * chunk) // block for piece in pieces],
            block_ids=[
                blocks[
                    max(begin, piece * chunk) // block : -(-min(end, (piece + 1) * chunk) // block)
                ]
                for piece in pieces
            ],
            shares_last_block=end % block != 0,
            asked_tokens=state.asked_tokens,
            hit_tokens=state.load_tokens,
        )
        plan.loads.append(load)
        state.load_tokens = 0
        self._loading.append(_Loading(self._step, state, end, int(state.request.num_preemptions)))

    def _settle_loads(self) -> None:
        """Give back the leases of loads whose step is over, and see whether they went well."""
        while self._loading and self._loading[0].step + self._batches <= self._step:
            loading = self._loading.popleft()
            state, request = loading.state, loading.state.request
            state.release_hit()
            if request.is_finished() or request.num_preemptions != loading.preemptions:
                continue
            failed = state.confirmed_tokens() < loading.end_token
            self._failures = self._failures + 1 if failed else 0
            if self._failures >= _FAILURES_IN_A_ROW:
                self._failures, self._paused_until = 0, self._step + _PAUSE_STEPS
                log.warning(
                    "LMCache: %d loads failed in a row; looking nothing up for %d steps",
                    _FAILURES_IN_A_ROW,
                    _PAUSE_STEPS,
                )

    def _plan_stores(self, plan: StepPlan, output: Any, blocks: Any) -> None:
        computed = _computed_tokens(output)
        fenced = self._confirms and self._step <= self._fence
        for request_id, scheduled in output.num_scheduled_tokens.items():
            if scheduled > 1:
                plan.prefill_tokens += scheduled
            state = self._states.get(request_id)
            if state is None or self._off or state.outdated:
                continue
            end = self._stores.storable(state, computed[request_id] + scheduled, fenced=fenced)
            if self._stores.is_new(state, end):
                ids = blocks.get_block_ids(request_id)[0]
                plan.stores += self._stores.reserve(state, end, ids, confirmed=fenced)

    # The end of a request.

    def finished(self, request: Any, block_ids: list[int]) -> bool:
        """Forget a request. True: vLLM keeps its blocks until the workers say that their copies
        ended.
        """
        request_id = str(request.request_id)
        self._untouched.discard(request_id)
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

    def _still_copying(self, state: RequestState, block_ids: list[int]) -> bool:
        state.release_hit()
        state.release_fetch()
        if state.ended_well() and not self._off:
            last = self._stores.last(state, block_ids)
            if last:
                self._carried += last
                return True
        if self._workers_gone or not self._ledger.pending(state.request_id):
            return False
        return bool(self._states) or not self._ledger.wait(state.request_id, _LAST_COPY_WAIT_S)

    def take_report(self, report: WorkerReport) -> None:
        """Note what the workers reported after a step."""
        self._ledger.drop(report.dropped_refs)
        if report.ranks_off:
            if report.reasons and not self._off:
                log.warning("LMCache: going on without the cache: %s", "; ".join(report.reasons))
            self._off = True
            self._workers_gone = report.ranks_off == self._ranks

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
            log.warning("LMCache: %s failed, going on without the cache: %s", doing, error)

    def close(self) -> None:
        """Give back every lease and reservation, and detach."""
        for state in self._states.values():
            state.release_hit()
            state.release_fetch()
        self._states.clear()
        self._off = True
        self._engine.close()


def _computed_tokens(output: Any) -> dict[str, int]:
    """Return, for each scheduled request, the tokens that are computed or loaded before this step
    computes.
    """
    computed = {new.req_id: int(new.num_computed_tokens) for new in output.scheduled_new_reqs}
    cached = output.scheduled_cached_reqs
    computed.update(zip(cached.req_ids, map(int, cached.num_computed_tokens), strict=True))
    return computed
