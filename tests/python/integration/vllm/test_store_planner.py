# SPDX-License-Identifier: Apache-2.0
"""Where a store may end, and which blocks it takes."""

from __future__ import annotations

import itertools
import types

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from paged_geometry import geometry
from paged_model import BLOCK, CHUNK

from lmcache.config import LMCacheConfig
from lmcache.integration.vllm.geometry import GroupGeometry
from lmcache.integration.vllm.store_planner import NULL_BLOCK, StorePlanner

PROMPT = 3 * CHUNK + BLOCK + 1
PER_CHUNK = CHUNK // BLOCK
BLOCKS = list(range(100, 120))
WINDOW = 2 * CHUNK
GROUPS = (
    GroupGeometry(("a",), (64,), BLOCK),
    GroupGeometry(("b",), (64,), 2 * BLOCK, window_tokens=WINDOW),
)


class Slots:
    """An engine and a ledger: gives out slots for two lanes, but not for chunks it has."""

    def __init__(self):
        self.has: set[int] = set()
        self.asked = []
        self.watched = []

    def reserve(self, namespace, prompt, first, end):
        self.asked.append((namespace, first, end))
        chunks = range(first, -(-end // CHUNK))
        return [
            [0 if chunk in self.has else 1000 * lane + chunk for chunk in chunks] for lane in (1, 2)
        ]

    def add(self, request_id, refs):
        self.watched.append((request_id, refs))


class State:
    """A request whose prompt has `PROMPT` tokens."""

    request_id, namespace, prompt = "r", "space", "prompt"

    def __init__(self, *, confirmed=0, answer=0):
        self.request = types.SimpleNamespace(num_prompt_tokens=PROMPT, num_tokens=PROMPT + answer)
        self.confirmed = confirmed
        self.next_chunk, self.tail_stored, self.outdated, self.hashed = 0, False, False, False

    def confirmed_tokens(self):
        return self.confirmed

    def hash_new_tokens(self):
        self.hashed = True


@pytest.fixture
def slots():
    return Slots()


@pytest.fixture
def planner(slots):
    def make(groups=1, shape=None, **settings):
        attachment = types.SimpleNamespace(
            engine=slots, geometry=geometry(groups=shape or GROUPS[:groups]), events=None
        )
        return StorePlanner(attachment, LMCacheConfig(chunk_size=CHUNK, **settings), slots)

    return make


@pytest.mark.parametrize(
    ("end", "stored"),
    [
        (CHUNK - 1, 0),
        (CHUNK, CHUNK),
        (2 * CHUNK + 3, 2 * CHUNK),  # more of the prompt follows
        (PROMPT, PROMPT),  # its end, which is no whole chunk
        (PROMPT + 2, PROMPT),  # drafts after it
    ],
)
def test_whole_chunks_and_the_end_of_the_prompt(planner, end, stored):
    assert planner().storable(State(), end, fenced=False) == stored


def test_the_end_of_a_prompt_is_stored_once_and_only_if_wanted(planner):
    state = State()
    state.tail_stored = True
    assert planner().storable(state, PROMPT, fenced=False) == 3 * CHUNK
    assert planner(save_unfull_chunk=False).storable(State(), PROMPT, fenced=False) == 3 * CHUNK


@pytest.mark.parametrize("confirmed", [0, CHUNK, 2 * CHUNK + 1, PROMPT])
def test_behind_a_fence_only_what_is_confirmed(planner, confirmed):
    whole = confirmed if confirmed == PROMPT else confirmed - confirmed % CHUNK
    assert planner().storable(State(confirmed=confirmed), PROMPT, fenced=True) == whole


@pytest.mark.parametrize(
    ("confirmed", "stored"), [(PROMPT, 3 * CHUNK), (5 * CHUNK - 1, 4 * CHUNK), (5 * CHUNK,) * 2]
)
def test_of_an_answer_only_tokens_that_were_kept(planner, confirmed, stored):
    state = State(confirmed=confirmed, answer=3 * CHUNK)
    planner = planner(conversation_mode=True)
    assert planner.storable(state, 6 * CHUNK, fenced=False) == stored


@pytest.mark.parametrize("tails", [True, False])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("prompt", [1, CHUNK, PROMPT])
def test_steps_that_are_not_looked_at_would_store_nothing(planner, answers, tails, prompt):
    planner = planner(conversation_mode=answers, save_unfull_chunk=tails)
    ends = range(1, PROMPT + 2 * CHUNK)
    state = State(confirmed=ends.stop)
    state.request = types.SimpleNamespace(num_prompt_tokens=prompt, num_tokens=ends.stop)
    looked_at = 0
    for state.next_chunk, state.tail_stored, end in itertools.product(range(5), (0, 1), ends):
        new = planner.is_new(state, planner.storable(state, end, fenced=False))
        looked_at += end >= planner._next_new(state)
        assert end >= planner._next_new(state) or not new
    assert answers or looked_at < 5 * len(ends)  # of ten times as many


def test_slots_blocks_and_what_is_watched(planner, slots):
    slots.has = {1}
    state = State()
    (plan,) = planner().reserve(state, PROMPT, [BLOCKS], confirmed=False)
    assert state.hashed
    assert slots.asked == [("space", 0, PROMPT)]
    assert plan.refs == [[1000, 0, 1002, 1003], [2000, 0, 2002, 2003]]
    assert [len(blocks) for blocks in plan.block_ids[0]] == [PER_CHUNK] * 3 + [2]
    assert [block for blocks in plan.block_ids[0] for block in blocks] == BLOCKS[
        : 3 * PER_CHUNK + 2
    ]
    assert not plan.confirmed
    assert slots.watched == [("r", [1000, 1002, 1003, 2000, 2002, 2003])]
    assert (state.next_chunk, state.tail_stored) == (3, True)


def test_the_next_store_begins_where_the_last_one_ended(planner, slots):
    state = State()
    planner = planner()
    planner.reserve(state, CHUNK, [BLOCKS], confirmed=False)
    assert not planner.is_new(state, CHUNK)
    assert planner.is_new(state, CHUNK + 1)
    (plan,) = planner.reserve(state, 2 * CHUNK, [BLOCKS], confirmed=True)
    assert slots.asked[-1] == ("space", 1, 2 * CHUNK)
    assert plan.block_ids[0] == [BLOCKS[PER_CHUNK : 2 * PER_CHUNK]]
    assert plan.confirmed
    assert not state.tail_stored


def test_nothing_to_store_is_no_plan(planner, slots):
    slots.has = {0, 1}
    state = State()
    assert planner().reserve(state, 2 * CHUNK, [BLOCKS], confirmed=False) == []
    assert slots.watched == []
    assert state.next_chunk == 2


def test_at_the_end_what_a_fence_held_back_is_stored(planner):
    (plan,) = planner().last(State(confirmed=PROMPT), [BLOCKS])
    assert plan.confirmed
    assert len(plan.block_ids[0]) == 4
    (plan,) = planner().last(State(confirmed=PROMPT), [BLOCKS[: PER_CHUNK + 1]])
    assert len(plan.block_ids[0]) == 1  # the other blocks are gone


def test_at_the_end_of_a_conversation_the_answer_is_stored(planner, slots):
    state = State(confirmed=PROMPT + 4, answer=5)
    (plan,) = planner(conversation_mode=True).last(state, [BLOCKS])
    assert slots.asked == [("space", 0, PROMPT + 4)]  # the last token was never computed
    assert plan.confirmed


def test_nothing_is_stored_of_what_a_reset_made_outdated_or_is_stored_already(planner, slots):
    state = State(confirmed=PROMPT)
    state.outdated = True
    assert planner().last(state, [BLOCKS]) == []
    state.outdated, state.next_chunk, state.tail_stored = False, 3, True
    assert planner().last(state, [BLOCKS]) == []
    assert slots.asked == []


def test_each_group_gives_blocks_of_its_own(planner):
    wide = list(range(200, 210))
    (plan,) = planner(groups=2).reserve(State(), 2 * CHUNK, [BLOCKS, wide], confirmed=False)
    assert plan.block_ids == [
        [BLOCKS[:PER_CHUNK], BLOCKS[PER_CHUNK : 2 * PER_CHUNK]],
        [wide[: PER_CHUNK // 2], wide[PER_CHUNK // 2 : PER_CHUNK]],
    ]


@pytest.mark.parametrize(("passed", "first"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_what_a_window_has_passed_is_not_stored(planner, slots, passed, first):
    wide = [NULL_BLOCK] * passed + list(range(200, 210))
    state = State()
    (plan,) = planner(groups=2).reserve(state, 3 * CHUNK, [BLOCKS, wide], confirmed=False)
    assert slots.asked == [("space", first, 3 * CHUNK)]
    assert all(NULL_BLOCK not in ids for ids in plan.block_ids[1])
    assert state.next_chunk == 3


def test_nothing_is_left_to_store_when_a_window_has_passed_it_all(planner, slots):
    state = State()
    ids = [BLOCKS, [NULL_BLOCK] * PER_CHUNK]
    assert planner(groups=2).reserve(state, 2 * CHUNK, ids, confirmed=False) == []
    assert slots.asked == []
    assert state.next_chunk == 2


STATES = GroupGeometry(("b",), (512,), BLOCK, window_tokens=1)


def test_states_are_stored_where_there_are_any(planner, slots):
    planner = planner(shape=(GROUPS[0], STATES))
    slots.cancelled = []
    slots.cancel = slots.cancelled.extend
    kept = {(1, CHUNK): 41, (1, 3 * CHUNK): 43, (0, 2 * CHUNK): 99}
    (plan,) = planner.reserve(State(), 3 * CHUNK, [BLOCKS, []], confirmed=False, states=kept)
    assert plan.block_ids[1] == [[41], [], [43]]
    assert plan.refs == [[1000, 1001, 1002], [2000, 0, 2002]]
    assert slots.cancelled == [2001]
    assert slots.watched == [("r", [1000, 1001, 1002, 2000, 2002])]


def test_of_states_no_tail_is_kept(planner):
    assert planner(shape=(GROUPS[0], STATES)).storable(State(), PROMPT, fenced=False) == 3 * CHUNK


def test_at_the_end_of_a_request_there_are_no_states_any_more(planner, slots):
    slots.cancel = lambda refs: None
    planner = planner(shape=(GROUPS[0], STATES))
    (plan,) = planner.last(State(confirmed=PROMPT), [BLOCKS, []])
    assert plan.block_ids[1] == [[], [], []]
    assert not any(plan.refs[1])
