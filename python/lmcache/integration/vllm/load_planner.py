# SPDX-License-Identifier: Apache-2.0
"""Where the tokens of a hit go: which blocks of which chunks into which blocks of vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm.step_plan import LoadPlan
from lmcache.integration.vllm.store_planner import NULL_BLOCK, Blocks

if TYPE_CHECKING:
    from lmcache.integration.vllm.geometry import EngineGeometry, GroupGeometry
    from lmcache.integration.vllm.request_state import RequestState


class Promises:
    """Requests that vLLM counts tokens of as loaded, which the step that schedules them must load.

    Mostly none, so that steps which only decode do not look at each request. One thread.
    """

    def __init__(self, states: Mapping[str, RequestState]) -> None:
        """`states` are the requests there are, by id; kept."""
        self._states = states
        self._made: list[RequestState] = []

    def __bool__(self) -> bool:
        return bool(self._made)

    def add(self, state: RequestState) -> None:
        """Note a request with tokens to load."""
        if state not in self._made:
            self._made.append(state)

    def due(self, output: Any) -> list[RequestState]:
        """Return those that a step schedules and that are not planned; forget what is kept."""
        self._made = [
            state
            for state in self._made
            if state.load_tokens and self._states.get(state.request_id) is state
        ]
        scheduled = output.num_scheduled_tokens
        return [state for state in self._made if state.request_id in scheduled]


def plan_load(geometry: EngineGeometry, state: RequestState, blocks: Blocks) -> LoadPlan | None:
    """Return where what was promised to a request goes, and note that it is planned; None: it is
    not there any more.
    """
    chunk = geometry.chunk_tokens
    begin, end = state.load_from, state.load_from + state.load_tokens
    hit = state.hit
    if hit is None or hit.prefix_tokens < end:
        return None
    pieces = range(begin // chunk, -(-end // chunk))
    places = [
        _place_of_state(group, ids, pieces, end)
        if group.keeps_states
        else [
            _place(group, ids, piece * chunk, begin, min(end, piece * chunk + chunk))
            for piece in pieces
        ]
        for group, ids in zip(geometry.groups, blocks, strict=True)
    ]
    load = LoadPlan(
        request_id=state.request_id,
        refs=[
            [refs[piece] for piece in pieces]
            for refs in (hit.refs(lane) for lane in range(geometry.lanes))
        ],
        first_blocks=[[first for first, _ in of_group] for of_group in places],
        block_ids=[[ids for _, ids in of_group] for of_group in places],
        shares_last_block=end % geometry.groups[0].block_tokens != 0,
        asked_tokens=state.asked_tokens,
        hit_tokens=state.load_tokens,
    )
    state.load_tokens = 0
    return load


def promised_blocks(geometry: EngineGeometry, state: RequestState, blocks: Blocks) -> list[int]:
    """Return the blocks that were to take what was promised. For an engine with one group: with
    several, loads go ahead.
    """
    block = geometry.groups[0].block_tokens
    first, end = state.load_from // block, -(-(state.load_from + state.load_tokens) // block)
    return [place for place in blocks[0][first:end] if place != _passed(geometry.groups[0])]


def _place(
    group: GroupGeometry, ids: list[int], chunk_begin: int, begin: int, end: int
) -> tuple[int, list[int]]:
    """Return which block of a chunk to begin with, and the ids of those that take tokens
    [begin, end) of it; without the first ones, which a window may have passed.
    """
    block = group.block_tokens
    first = max(begin, chunk_begin) // block
    places = ids[first : -(-end // block)]
    passed = next((i for i, place in enumerate(places) if place != _passed(group)), len(places))
    return first + passed - chunk_begin // block, places[passed:]


def _place_of_state(
    group: GroupGeometry, ids: list[int], pieces: range, end: int
) -> list[tuple[int, list[int]]]:
    """Return the place of each chunk's state: only the last one is taken."""
    return [
        (0, [ids[-(-end // group.block_tokens) - 1]] if piece == pieces[-1] else [])
        for piece in pieces
    ]


def _passed(group: GroupGeometry) -> int | None:
    """Return the id that stands for a block before the window."""
    return NULL_BLOCK if group.window_tokens else None
