# SPDX-License-Identifier: Apache-2.0
"""What goes to the workers."""

from __future__ import annotations

import pickle

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from lmcache.integration.vllm.step_plan import LoadPlan, StepPlan, StorePlan

LOAD = LoadPlan("r", [[1, 2], [3, 4]], [[0, 1]], [[[10, 11], [12]]], shares_last_block=False)
STORE = StorePlan("r", [[1, 0], [0, 4]], [[[10], [11]]], confirmed=False)


def test_each_rank_takes_its_slots():
    assert list(LOAD.items(1, 0)) == [(3, 0, [10, 11]), (4, 1, [12])]
    assert STORE.items(0, 0) == [(1, [10])]
    assert STORE.items(1, 0) == [(4, [11])]


def test_all_blocks_that_must_be_loaded():
    plan = StepPlan(loads=[LOAD], lost_blocks=[7])
    assert list(plan.blocks_to_load()) == [7, 10, 11, 12]


def test_each_group_has_blocks_of_its_own():
    load = LoadPlan(
        "r", [[1, 2], [3, 4]], [[0, 0], [1, 0]], [[[10], [11]], [[], [21]]], shares_last_block=False
    )
    assert list(load.items(0, 0)) == [(1, 0, [10]), (2, 0, [11])]
    assert list(load.items(1, 1)) == [(4, 0, [21])]  # the window has passed the first chunk
    store = StorePlan("r", [[1, 2], [3, 4]], [[[10], [11]], [[20], [21]]], confirmed=True)
    assert store.items(1, 1) == [(3, [20]), (4, [21])]


def test_requests_that_wait_for_their_loads_and_steps_that_do():
    ahead = LoadPlan("later", [[1]], [[0]], [[[5]]], shares_last_block=False, ahead=True)
    plan = StepPlan(loads=[LOAD, ahead], lost_requests=["gone"])
    assert list(plan.waiting_requests()) == ["gone", "later"]
    assert list(plan.blocks_to_load()) == [10, 11, 12]


def test_it_survives_the_way_to_a_worker():
    plan = StepPlan(loads=[LOAD], stores=[STORE], preempted=["a"], released=["b"], prefill_tokens=3)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert len(pickle.dumps(StepPlan())) < 300
