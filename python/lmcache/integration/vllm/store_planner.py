# SPDX-License-Identifier: Apache-2.0
"""Which chunks of a request are to be stored, and when: only KV that is known to be right.

A failed load spoils what the same step computes, on every rank and in every request of the batch,
since they share blocks and exchange activations. A single rank sees the failure itself before it
stores; with several, or with steps that overlap, chunks wait behind a fence until the step with the
load is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.step_plan import StorePlan

if TYPE_CHECKING:
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.attachment import Attachment
    from lmcache.integration.vllm.geometry import GroupGeometry
    from lmcache.integration.vllm.request_state import RequestState
    from lmcache.integration.vllm.store_ledger import StoreLedger


Blocks = Sequence[list[int]]  # a request's block ids, by group
NULL_BLOCK = 0  # vLLM's id for a block that a window has passed


class StorePlanner:
    """One thread: the scheduler's."""

    def __init__(
        self,
        attachment: Attachment,
        config: LMCacheConfig,
        ledger: StoreLedger,
    ) -> None:
        self._engine = attachment.engine
        self._geometry = attachment.geometry
        self._answers = config.conversation_mode
        self._tails = config.save_unfull_chunk and not attachment.geometry.keeps_states
        self._ledger = ledger
        self._events = attachment.events

    def storable(self, state: RequestState, end: int, *, fenced: bool) -> int:
        """Return up to which token a scheduled request can be stored after a step that computes up
        to `end`.
        """
        prompt_tokens = int(state.request.num_prompt_tokens)
        if fenced or end > prompt_tokens:
            confirmed = min(end, state.confirmed_tokens())
            # Beyond the prompt, tokens of this step may be drafts that are thrown away.
            end = confirmed if fenced else max(prompt_tokens, confirmed)
        if self._answers:
            end = min(end, int(state.request.num_tokens))
            return (
                end - end % self._geometry.chunk_tokens
            )  # the last piece comes when the answer is complete
        return self._cut(state, min(end, prompt_tokens), prompt_tokens)

    def _next_new(self, state: RequestState) -> float:
        """Return the token up to which a step must compute before anything new can be stored."""
        whole = (state.next_chunk + 1) * self._geometry.chunk_tokens
        prompt_tokens: int = state.request.num_prompt_tokens
        if self._answers or whole <= prompt_tokens:
            return whole
        has_tail = whole - self._geometry.chunk_tokens < prompt_tokens
        tail_follows = has_tail and self._tails and not state.tail_stored
        return prompt_tokens if tail_follows else math.inf

    def is_new(self, state: RequestState, end: int) -> bool:
        """Whether anything before token `end` is neither found nor planned yet."""
        return end > state.next_chunk * self._geometry.chunk_tokens

    def after_step(
        self,
        step: int,
        state: RequestState,
        computed: int,
        end: int,
        blocks: Any,
        *,
        fenced: bool,
    ) -> list[StorePlan]:
        """Plan what a scheduled request can store after this step, which computes its tokens
        `computed`..`end`; `blocks`: the block tables of the step.
        """
        if end < self._next_new(state):  # most steps only decode
            return []
        storable = self.storable(state, end, fenced=fenced)
        if not self.is_new(state, storable):
            return []
        late = state.goes_on_after_first(computed, end)
        state.late_step = step if late else 0
        return self.reserve(
            state,
            storable,
            blocks.get_block_ids(state.request_id),
            confirmed=fenced,
            late=late,
            states=compat.boundary_states(blocks, state.request_id),
        )

    def last(self, state: RequestState, blocks: Blocks) -> list[StorePlan]:
        """Plan what could not be stored while the request ran: what a fence held back, the end of
        an answer.
        """
        if state.outdated:
            return []
        held = (
            len(ids) * group.block_tokens
            for ids, group in self._by_group(blocks)
            if not group.keeps_states
        )
        known = min(state.confirmed_tokens(), *held)
        if self._answers:
            end = min(known, int(state.request.num_tokens))
            end = self._cut(state, end, end)
        else:
            last = int(state.request.num_prompt_tokens)
            end = self._cut(state, min(known, last), last)
        return self.reserve(state, end, blocks, confirmed=True) if self.is_new(state, end) else []

    def reserve(
        self,
        state: RequestState,
        end: int,
        blocks: Blocks,
        *,
        confirmed: bool,
        late: bool = False,
        states: Mapping[tuple[int, int], int] | None = None,
    ) -> list[StorePlan]:
        """Reserve slots for everything up to token `end` that is new, and plan to fill them from
        `blocks`, of which there is a list per group.

        `states` says which block of a group holds the state after so many tokens: (group, tokens)
        -> block, as far as there is one.
        """
        state.hash_new_tokens()
        chunk = self._geometry.chunk_tokens
        first = max(state.next_chunk, self._first_whole(end, blocks))
        if first * chunk >= end:
            state.next_chunk = max(state.next_chunk, end // chunk)
            return []
        refs = self._engine.reserve(state.namespace, state.prompt, first, end)
        state.next_chunk = end // self._geometry.chunk_tokens
        state.tail_stored = state.tail_stored or end % self._geometry.chunk_tokens != 0
        block_ids = [
            self._state_ids(refs, index, first, states or {})
            if group.keeps_states
            else self._ids(ids, group, first, end)
            for index, (ids, group) in enumerate(self._by_group(blocks))
        ]
        wanted = [ref for lane in refs for ref in lane if ref]
        if not wanted:
            return []
        self._ledger.add(state.request_id, wanted)
        if self._events is not None:
            self._events.stored(state.request, first, end, refs)
        return [StorePlan(state.request_id, refs, block_ids, confirmed, late)]

    def _ids(self, ids: list[int], group: GroupGeometry, first: int, end: int) -> list[list[int]]:
        """Return the blocks of each chunk."""
        used = ids[: -(-end // group.block_tokens)]
        per_chunk = self._geometry.chunk_tokens // group.block_tokens
        starts = range(first * per_chunk, len(used), per_chunk)
        return [used[start : start + per_chunk] for start in starts]

    def _state_ids(
        self,
        refs: list[list[int]],
        index: int,
        first: int,
        states: Mapping[tuple[int, int], int],
    ) -> list[list[int]]:
        """Return the block with the state after each chunk. Where there is none, the slots that
        were reserved for it are given back.
        """
        chunk, ranks = self._geometry.chunk_tokens, self._geometry.ranks
        lanes = refs[index * ranks : (index + 1) * ranks]
        out: list[list[int]] = []
        unused: list[int] = []
        for piece in range(len(lanes[0])):
            block = states.get((index, (first + piece + 1) * chunk))
            out.append([] if block is None else [block])
            if block is None:
                unused += [lane[piece] for lane in lanes if lane[piece]]
                for lane in lanes:
                    lane[piece] = 0
        if unused:
            self._engine.cancel(unused)
        return out

    def _by_group(self, blocks: Blocks) -> Iterator[tuple[list[int], GroupGeometry]]:
        return zip(blocks, self._geometry.groups, strict=True)

    def _first_whole(self, end: int, blocks: Blocks) -> int:
        """Return the first chunk from which on vLLM has taken no block away: it no longer needs
        what lies before a window, and its cache does not keep it.
        """
        first = 0
        for ids, group in self._by_group(blocks):
            if not group.window_tokens or group.keeps_states:
                continue
            used = ids[: -(-end // group.block_tokens)]
            gone = next((i for i in range(len(used) - 1, -1, -1) if used[i] == NULL_BLOCK), -1)
            first = max(first, -(-(gone + 1) * group.block_tokens // self._geometry.chunk_tokens))
        return first

    def _cut(self, state: RequestState, end: int, last: int) -> int:
        """Cut off a piece that is no whole chunk, unless nothing will ever follow it."""
        tail = end % self._geometry.chunk_tokens
        if tail and (end < last or state.tail_stored or not self._tails):
            return end - tail
        return end
