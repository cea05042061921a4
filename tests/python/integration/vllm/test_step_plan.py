# SPDX-License-Identifier: Apache-2.0
"""What goes to the workers."""

from __future__ import annotations

import pickle

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from lmcache.integration.vllm.step_plan import LoadPlan, StepPlan, StorePlan

LOAD = LoadPlan("r", [[1, 2], [3, 4]], [0, 1], [[10, 11], [12]], shares_last_block=False)
STORE = StorePlan("r", [[1, 0], [0, 4]], [[10], [11]], confirmed=False)


def test_each_rank_takes_its_slots():
    assert list(LOAD.items(1)) == [(3, 0, [10, 11]), (4, 1, [12])]
    assert STORE.items(0) == [(1, [10])]
    assert STORE.items(1) == [(4, [11])]


def test_all_blocks_that_must_be_loaded():
    plan = StepPlan(loads=[LOAD], lost_blocks=[7])
    assert list(plan.blocks_to_load()) == [7, 10, 11, 12]


def test_it_survives_the_way_to_a_worker():
    plan = StepPlan(loads=[LOAD], stores=[STORE], preempted=["a"], released=["b"], prefill_tokens=3)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert len(pickle.dumps(StepPlan())) < 300
