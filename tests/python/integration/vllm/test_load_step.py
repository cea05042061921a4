# SPDX-License-Identifier: Apache-2.0
"""The loads of one step."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from lmcache.integration.vllm.load_step import LoadStep
from lmcache.integration.vllm.step_plan import LoadPlan


class Jobs:
    """An engine that writes down what it is asked; jobs arrive unless they are said to hang."""

    def __init__(self):
        self.submitted, self.waited, self.planes, self.dropped = [], [], [], []
        self.hanging: set[int] = set()
        self.failed: dict[int, list[int]] = {}

    def submit_load(self, view, items):
        self.submitted.append(items)
        return len(self.submitted)

    def wait(self, job, timeout_ms):
        self.waited.append(job)
        return job not in self.hanging

    def wait_plane(self, job, plane, timeout_ms):
        self.planes.append((job, plane))
        return job not in self.hanging

    def poll(self, job):
        return job not in self.hanging

    def cancel_job(self, job):
        self.dropped.append(job)
        self.hanging.discard(job)
        self.failed[job] = list(range(len(self.submitted[job - 1])))

    def finish(self, job):
        return self.failed.get(job, [])


LOAD = LoadPlan("r", [[11, 12]], [[1, 0]], [[[5, 6], [7, 8]]], shares_last_block=True)


@pytest.fixture
def engine():
    return Jobs()


@pytest.fixture
def step(engine):
    return LoadStep(engine, view=3, deadline_s=0.01)


def test_all_at_once(engine, step):
    step.start([LOAD], 0, layerwise=False)
    assert not step.layerwise
    assert engine.submitted == [[(11, 1, [5, 6]), (12, 0, [7, 8])]]
    assert step.end() == set()
    assert step.blocks == 4


def test_a_block_that_the_step_writes_to_is_waited_for_first(engine, step):
    step.start([LOAD], 0, layerwise=True)
    assert engine.submitted == [[(12, 1, [8])], [(11, 1, [5, 6]), (12, 0, [7])]]
    assert engine.waited == [1]
    step.wait_plane(4)
    assert engine.planes == [(2, 4)]
    assert step.end() == set()


def test_whole_blocks_go_layer_by_layer(engine, step):
    whole = LoadPlan("r", [[11]], [[0]], [[[5, 6]]], shares_last_block=False)
    step.start([whole], 0, layerwise=True)
    assert step.layerwise
    assert engine.waited == []


def test_a_single_shared_block_leaves_nothing_to_stream(engine, step):
    one = LoadPlan("r", [[11]], [[2]], [[[5]]], shares_last_block=True)
    step.start([one], 0, layerwise=True)
    assert engine.submitted == [[(11, 2, [5])]]
    assert not step.layerwise
    assert step.end() == set()


def test_failed_chunks_are_named_by_their_blocks(engine, step):
    step.start([LOAD], 0, layerwise=False)
    engine.failed[1] = [1]
    assert step.end() == {7, 8}


def test_missing_chunks_fail_at_once(engine, step):
    gone = LoadPlan("r", [[11, 0]], [[0, 0]], [[[5], [6]]], shares_last_block=False)
    step.start([gone], 0, layerwise=False)
    assert engine.submitted == [[(11, 0, [5])]]
    assert step.end() == {6}


def test_past_the_deadline_a_load_is_dropped_before_the_step_goes_on(engine, step, caplog):
    step.start([LOAD], 0, layerwise=False)
    engine.hanging.add(1)
    assert step.end() == {5, 6, 7, 8}
    assert engine.dropped == [1]
    assert "took over" in caplog.text


def test_a_plane_that_does_not_come_is_not_waited_for_twice(engine, step):
    step.start([LOAD], 0, layerwise=True)
    engine.hanging.add(2)
    step.wait_plane(0)
    step.wait_plane(1)
    assert engine.dropped == [2]
    assert step.end() == {5, 6, 7}
