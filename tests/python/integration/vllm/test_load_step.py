# SPDX-License-Identifier: Apache-2.0
"""The loads of one step."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from lmcache.integration.vllm.device_stream import ALL_PLANES, CudaStream, HostStream
from lmcache.integration.vllm.load_step import LoadStep
from lmcache.integration.vllm.step_plan import LoadPlan


class Jobs:
    """An engine that writes down what it is asked; jobs arrive unless they are said to hang."""

    def __init__(self):
        self.submitted, self.waited, self.planes, self.dropped = [], [], [], []
        self.streams: list[int | None] = []
        self.hanging: set[int] = set()
        self.never: set[int] = set()  # over, but not arrived
        self.failed: dict[int, list[int]] = {}

    def submit_load(self, view, items, stream=None):
        self.submitted.append(items)
        self.streams.append(stream)
        return len(self.submitted)

    def stream_wait_plane(self, job, plane, stream, timeout_ms):
        self.planes.append((job, plane, stream))
        return job not in self.hanging | self.never

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


class Cuda:
    """What is asked of `torch.cuda`: the stream of a device."""

    def current_stream(self, device):
        return types.SimpleNamespace(cuda_stream=700 + device)


LOAD = LoadPlan("r", [[11, 12]], [[1, 0]], [[[5, 6], [7, 8]]], shares_last_block=True)


@pytest.fixture
def engine():
    return Jobs()


@pytest.fixture
def step(engine):
    return LoadStep(engine, HostStream(), view=3, deadline_s=0.01)


@pytest.fixture
def gpu_step(engine):
    return LoadStep(engine, CudaStream(1, Cuda()), view=3, deadline_s=0.01)


def test_all_at_once(engine, step):
    step.start([LOAD], 0, layerwise=False)
    assert not step.ends_later
    assert engine.submitted == [[(11, 1, [5, 6]), (12, 0, [7, 8])]]
    assert engine.streams == [None]
    assert step.end() == set()
    assert step.blocks == 4


def test_a_block_that_the_step_writes_to_is_waited_for_first(engine, step):
    step.start([LOAD], 0, layerwise=True)
    assert engine.submitted == [[(12, 1, [8])], [(11, 1, [5, 6]), (12, 0, [7])]]
    assert engine.planes == [(1, ALL_PLANES)]
    step.wait_plane(4)
    assert engine.planes[1:] == [(2, 4)]
    assert step.end() == set()


def test_whole_blocks_go_layer_by_layer(engine, step):
    whole = LoadPlan("r", [[11]], [[0]], [[[5, 6]]], shares_last_block=False)
    step.start([whole], 0, layerwise=True)
    assert step.ends_later
    assert engine.planes == []
    assert engine.waited == []


def test_a_single_shared_block_leaves_nothing_to_stream(engine, step):
    one = LoadPlan("r", [[11]], [[2]], [[[5]]], shares_last_block=True)
    step.start([one], 0, layerwise=True)
    assert engine.submitted == [[(11, 2, [5])]]
    assert not step.ends_later
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


def test_on_a_gpu_the_device_waits_and_the_host_asks_at_the_end(engine, gpu_step):
    gpu_step.start([LOAD], 0, layerwise=False)
    assert gpu_step.ends_later
    assert engine.submitted == [[(11, 1, [5, 6]), (12, 0, [7, 8])]]
    assert engine.streams == [701]
    assert engine.planes == [(1, ALL_PLANES, 701)]
    assert engine.waited == []
    gpu_step.wait_plane(0)  # all of it is waited for already
    assert len(engine.planes) == 1
    engine.failed[1] = [0]
    assert gpu_step.end() == {5, 6}
    assert engine.waited == [1]


def test_on_a_gpu_layers_are_waited_for_one_by_one(engine, gpu_step):
    gpu_step.start([LOAD], 0, layerwise=True)
    assert engine.planes == [(1, ALL_PLANES, 701)]  # the block that the step writes to
    gpu_step.wait_plane(0)
    gpu_step.wait_plane(1)
    assert engine.planes[1:] == [(2, 0, 701), (2, 1, 701)]
    assert engine.waited == []
    assert gpu_step.end() == set()
    assert engine.waited == [1, 2]


def test_on_a_gpu_a_load_past_its_deadline_is_dropped_before_the_model_is_called(engine, gpu_step):
    engine.hanging.add(1)
    gpu_step.start([LOAD], 0, layerwise=False)
    assert engine.dropped == [1]
    assert gpu_step.end() == {5, 6, 7, 8}


def test_on_a_gpu_a_load_that_never_arrives_is_reported_at_the_end(engine, gpu_step):
    engine.never.add(1)
    engine.failed[1] = [0, 1]
    gpu_step.start([LOAD], 0, layerwise=False)
    assert engine.dropped == []
    assert gpu_step.end() == {5, 6, 7, 8}
