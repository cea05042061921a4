# SPDX-License-Identifier: Apache-2.0
"""Stores of one rank, by request."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="step plans are vLLM's metadata")

from paged_geometry import geometry

from lmcache.integration.vllm.device_stream import CudaStream, HostStream
from lmcache.integration.vllm.geometry import GroupGeometry
from lmcache.integration.vllm.step_plan import StorePlan
from lmcache.integration.vllm.store_jobs import StoreJobs


class Jobs:
    """An engine whose jobs end when the test says so."""

    def __init__(self):
        self.submitted, self.cancelled, self.dropped = [], [], []
        self.streams: list[int | None] = []
        self.over: set[int] = set()
        self.failed: dict[int, list[int]] = {}
        self.finished: list[int] = []

    def submit_store(self, view, items, stream=None):
        self.submitted.append((view, items))
        self.streams.append(stream)
        return len(self.submitted)

    def poll(self, job):
        return job in self.over

    def wait(self, job, timeout_ms):
        return job in self.over

    def cancel_job(self, job):
        self.dropped.append(job)
        self.over.add(job)
        self.failed[job] = [0]

    def finish(self, job):
        self.finished.append(job)
        return self.failed.get(job, [])

    def cancel(self, refs):
        self.cancelled += refs


def plan(request_id, *refs, confirmed=False, late=False):
    lanes = [[0] * len(refs), list(refs)]
    return StorePlan(request_id, lanes, [[[i] for i in range(len(refs))]], confirmed, late)


def cuda():
    return types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=700 + device)
    )


@pytest.fixture
def engine():
    return Jobs()


@pytest.fixture
def jobs(engine):
    return StoreJobs(engine, HostStream(), geometry(2, 1))


def test_only_what_is_reserved_for_this_rank_is_stored(engine, jobs):
    jobs.start([7], plan("r", 11, 0, 13), spoilt=False)
    assert engine.submitted == [(7, [(11, [0]), (13, [2])])]
    jobs.start([7], plan("r", 0), spoilt=False)
    assert len(engine.submitted) == 1


def test_one_that_is_late_begins_when_the_next_step_says_so(engine, jobs):
    jobs.start([7], plan("r", 1, late=True), spoilt=False)
    jobs.start([7], plan("other", 2), spoilt=False)
    assert engine.submitted == [(7, [(2, [0])])]
    assert not jobs.ended("r"), "its blocks are still to be read"
    jobs.reap()
    jobs.start_late()
    jobs.start_late()
    assert engine.submitted == [(7, [(2, [0])]), (7, [(1, [0])])]
    assert not jobs.ended("r")
    engine.over |= {1, 2}
    assert jobs.ended("r")


def test_one_that_is_late_and_spoilt_is_given_back_at_once(engine, jobs):
    jobs.start([7], plan("r", 1, late=True), spoilt=True)
    jobs.start_late()
    assert (engine.submitted, engine.cancelled, jobs.take_dropped_refs()) == ([], [1], [1])


def test_closing_ends_what_was_late(engine, jobs):
    jobs.start([7], plan("r", 1, late=True), spoilt=False)
    engine.over.add(1)
    jobs.settle_all(1.0)
    assert engine.finished == [1]
    assert jobs.ended("r")


def test_nothing_is_late_where_the_device_copies(engine):
    jobs = StoreJobs(engine, CudaStream(0, cuda()), geometry(2, 1))
    jobs.start([7], plan("r", 1, late=True), spoilt=False)
    assert len(engine.submitted) == 1


def test_nothing_is_late_where_the_next_step_waits_for_it(engine):
    group = GroupGeometry(("a",), (64,), 8, window_tokens=32)
    jobs = StoreJobs(engine, HostStream(), geometry(2, 1, groups=(group,)))
    jobs.start([7], plan("r", 1, late=True), spoilt=False)
    assert len(engine.submitted) == 1


def test_a_request_has_ended_when_all_its_jobs_have(engine, jobs):
    assert jobs.ended("r")
    jobs.start([7], plan("r", 1), spoilt=False)
    jobs.start([7], plan("r", 2), spoilt=False)
    engine.over.add(1)
    assert not jobs.ended("r")
    engine.over.add(2)
    assert jobs.ended("r")
    assert jobs.take_dropped_refs() == []


def test_spoilt_chunks_are_given_back(engine, jobs):
    jobs.start([7], plan("r", 1, 2), spoilt=True)
    assert engine.cancelled == [1, 2]
    assert engine.submitted == []
    assert jobs.ended("r")
    assert jobs.take_dropped_refs() == [1, 2]
    assert jobs.take_dropped_refs() == []


def test_settling_drops_what_takes_too_long(engine, jobs):
    jobs.start([7], plan("a", 1), spoilt=False)
    jobs.start([7], plan("b", 2), spoilt=False)
    engine.over.add(1)
    jobs.settle_all(0.01)
    assert engine.dropped == [2]
    assert jobs.ended("a")
    assert jobs.ended("b")
    assert jobs.take_dropped_refs() == [2]


def test_reap_forgets_what_is_over(engine, jobs):
    jobs.start([7], plan("a", 1), spoilt=False)
    engine.over.add(1)
    jobs.reap()
    assert engine.finished == [1]


def test_copies_out_of_a_window_end_before_others_get_its_blocks(engine):
    groups = (GroupGeometry(("a",), (64,), 8), GroupGeometry(("b",), (64,), 8, window_tokens=32))
    jobs = StoreJobs(engine, HostStream(), geometry(groups=groups))
    store = StorePlan("r", [[1], [2]], [[[10]], [[20]]], confirmed=True)
    jobs.start([7, 8], store, spoilt=False)
    assert engine.submitted == [(7, [(1, [10])]), (8, [(2, [20])])]
    jobs.settle_windows(0.01)
    assert engine.dropped == [2]  # it took too long; the other one may go on
    assert not jobs.ended("r")
    jobs.settle_windows(0.01)
    assert engine.dropped == [2]
    engine.over.add(1)
    assert jobs.ended("r")
    assert jobs.take_dropped_refs() == [2]


def test_on_a_gpu_stores_wait_for_what_is_on_the_stream(engine):
    jobs = StoreJobs(engine, CudaStream(0, cuda()), geometry(2, 1))
    jobs.start([7], plan("r", 1), spoilt=False)
    assert engine.streams == [700]
    assert not jobs.ended("r")  # its blocks are kept until the job has ended
