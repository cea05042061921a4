# SPDX-License-Identifier: Apache-2.0
"""Which blocks of which chunks go where."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from paged_geometry import geometry
from paged_model import BLOCK, CHUNK

from lmcache.integration.vllm.geometry import GroupGeometry
from lmcache.integration.vllm.load_planner import Promises, plan_load, promised_blocks
from lmcache.integration.vllm.store_planner import NULL_BLOCK

PER_CHUNK = CHUNK // BLOCK
IDS = list(range(100, 120))
FULL = GroupGeometry(("a",), (64,), BLOCK)
WIDE = GroupGeometry(("b",), (64,), 2 * BLOCK, window_tokens=CHUNK)


def state(begin, tokens, hit=3 * CHUNK, lanes=1):
    refs = [[10 * (lane + 1) + piece for piece in range(-(-hit // CHUNK))] for lane in range(lanes)]
    found = types.SimpleNamespace(prefix_tokens=hit, refs=refs.__getitem__)
    return types.SimpleNamespace(
        request_id="r",
        hit=found,
        load_from=begin,
        load_tokens=tokens,
        asked_tokens=tokens + 5,
    )


class Asking:
    """A request as promises know it."""

    def __init__(self, request_id, load_tokens=5):
        self.request_id, self.load_tokens = request_id, load_tokens


def test_promises_are_due_until_kept_or_gone():
    step = types.SimpleNamespace(num_scheduled_tokens={"a": 1, "b": 1, "gone": 1})
    a, b, later, gone = (Asking(name) for name in ("a", "b", "later", "gone"))
    states = {"a": a, "b": b, "later": later}
    promises = Promises(states)
    assert not promises
    for state in (a, a, b, later, gone):
        promises.add(state)
    assert promises.due(step) == [a, b]
    a.load_tokens = 0  # planned
    states["b"] = Asking("b")  # begun anew
    assert promises.due(step) == []
    assert promises
    step.num_scheduled_tokens = {"later": 1}
    assert promises.due(step) == [later]
    later.load_tokens = 0
    assert promises.due(step) == []
    assert not promises


def test_a_whole_prefix():
    load = plan_load(geometry(), state(0, 2 * CHUNK), [IDS])
    assert load.refs == [[10, 11]]
    assert load.first_blocks == [[0, 0]]
    assert load.block_ids == [[IDS[:PER_CHUNK], IDS[PER_CHUNK : 2 * PER_CHUNK]]]
    assert not load.shares_last_block
    assert (load.asked_tokens, load.hit_tokens) == (2 * CHUNK + 5, 2 * CHUNK)


def test_it_begins_and_ends_within_chunks_and_blocks():
    waiting = state(CHUNK + BLOCK, CHUNK + 3)
    load = plan_load(geometry(), waiting, [IDS])
    assert load.refs == [[11, 12]]
    assert load.first_blocks == [[1, 0]]
    assert load.block_ids == [
        [IDS[PER_CHUNK + 1 : 2 * PER_CHUNK], IDS[2 * PER_CHUNK : 2 * PER_CHUNK + 2]]
    ]
    assert load.shares_last_block
    assert waiting.load_tokens == 0  # planned


@pytest.mark.parametrize("passed", range(2 * PER_CHUNK // 2 + 1))
def test_what_a_window_has_passed_is_left_out(passed):
    ids = [NULL_BLOCK] * passed + IDS
    load = plan_load(geometry(groups=(FULL, WIDE)), state(0, 2 * CHUNK, lanes=2), [IDS, ids])
    assert load.block_ids[0] == [IDS[:PER_CHUNK], IDS[PER_CHUNK : 2 * PER_CHUNK]]
    assert [len(of_piece) for of_piece in load.block_ids[1]] == [
        max(0, PER_CHUNK // 2 - passed),
        min(PER_CHUNK // 2, PER_CHUNK - passed),
    ]
    taken = [
        (ref, first + i, place)
        for ref, first, ids in load.items(1, 1)
        for i, place in enumerate(ids)
    ]
    # Each block of the chunks goes where vLLM looks for it.
    assert taken == [
        (20 + i // (PER_CHUNK // 2), i % (PER_CHUNK // 2), ids[i]) for i in range(passed, PER_CHUNK)
    ]


def test_what_is_gone_is_not_planned():
    waiting = state(0, 2 * CHUNK, hit=CHUNK)
    assert plan_load(geometry(), waiting, [IDS]) is None
    waiting.hit = None
    assert plan_load(geometry(), waiting, [IDS]) is None
    assert waiting.load_tokens == 2 * CHUNK  # still promised


def test_blocks_that_were_promised():
    assert promised_blocks(geometry(), state(BLOCK, 2 * BLOCK + 1), [IDS]) == IDS[1:4]
    narrow = GroupGeometry(("a",), (64,), BLOCK, window_tokens=CHUNK)
    ids = [NULL_BLOCK, NULL_BLOCK, *IDS]
    assert promised_blocks(geometry(groups=(narrow,)), state(BLOCK, 3 * BLOCK), [ids]) == IDS[:2]


def test_of_states_only_the_last_is_taken():
    held = GroupGeometry(("b",), (512,), 2 * BLOCK, window_tokens=1)
    shape = geometry(groups=(FULL, held))
    ids = [NULL_BLOCK] * (2 * PER_CHUNK // 2 - 1) + [77]
    load = plan_load(shape, state(CHUNK, CHUNK, lanes=2), [IDS, ids])
    assert load.block_ids == [[IDS[PER_CHUNK : 2 * PER_CHUNK]], [[77]]]
    load = plan_load(shape, state(0, 2 * CHUNK, lanes=2), [IDS, ids])
    assert list(load.items(1, 1)) == [(21, 0, [77])]
