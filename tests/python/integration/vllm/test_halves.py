# SPDX-License-Identifier: Apache-2.0
"""Halves are always made; what stands in the way of the cache is said once, and only settings end
the start.
"""

from __future__ import annotations

import logging
import types

import pytest
from paged_geometry import geometry

pytest.importorskip("vllm", reason="the halves need vLLM")

from lmcache.config import LMCacheConfig, load_config
from lmcache.errors import ConfigError, UnavailableError
from lmcache.integration.vllm import failure_policy, halves
from lmcache.integration.vllm.attachment import Attachment
from lmcache.integration.vllm.step_plan import LoadPlan, StepPlan
from lmcache.integration.vllm.worker_report import WorkerReport


class Ranks:
    """Stands for `attach`: writes down who attaches, and fails as it is told to."""

    def __init__(self):
        self.seen = []
        self.error: Exception | None = None

    def __call__(self, config, vllm_config, kv_cache_config, rank):
        self.seen.append((kv_cache_config, rank))
        if self.error is not None:
            raise self.error
        return Attachment(types.SimpleNamespace(has_lower_tier=False), geometry(4, rank or 0), None)


class Chosen:
    """A `KVTransferConfig` whose policy was written down."""

    def __init__(self, **settings):
        vars(self).update(settings)


failure_policy.watch_class(Chosen)


class Kv(str):
    """Stands for vLLM's configuration of its KV."""

    num_blocks = 16


KV = Kv("kv")


@pytest.fixture
def ranks(monkeypatch):
    ranks = Ranks()
    monkeypatch.setattr(halves, "attach", ranks)
    return ranks


@pytest.fixture
def start(ranks, monkeypatch, caplog):
    """Return a function that makes a half (of a rank, or of the scheduler) under some settings."""
    caplog.set_level(logging.INFO, "vllm.lmcache")

    def make(rank=None, **settings):
        monkeypatch.setattr(halves, "read_config", lambda _: LMCacheConfig(**settings))
        config = types.SimpleNamespace(
            max_concurrent_batches=1,
            parallel_config=types.SimpleNamespace(world_size=4, rank=rank),
            compilation_config=types.SimpleNamespace(cudagraph_mode=None),
            kv_transfer_config=make.transfer,
        )
        if rank is None:
            return halves.open_scheduler_half(config, KV)
        return halves.open_worker_half(config, KV)

    make.transfer = types.SimpleNamespace(kv_load_failure_policy="fail")
    return make


def test_a_policy_that_nobody_chose_becomes_ours(start):
    start(rank=0)
    assert start.transfer.kv_load_failure_policy == "fail"  # the scheduler half is the one to say
    start()
    assert start.transfer.kv_load_failure_policy == "recompute"


def test_a_policy_that_the_user_chose_stays(start, caplog):
    start.transfer = Chosen(kv_load_failure_policy="fail")
    start()
    assert start.transfer.kv_load_failure_policy == "fail"
    assert any("kv_load_failure_policy" in line for line in caplog.messages)


def test_settings_of_a_server_are_answered_once(start, monkeypatch, caplog):
    def read(_):
        return load_config({"lmcache.mp.host": "h", "lmcache.mp.port": 1}, log_warnings=False)

    for rank in (None, 0, 1):
        start(rank)
    caplog.clear()
    for rank in (None, 0, 1):
        monkeypatch.setattr(halves, "read_config", read)
        config = types.SimpleNamespace(
            max_concurrent_batches=1,
            parallel_config=types.SimpleNamespace(world_size=4, rank=rank),
            compilation_config=types.SimpleNamespace(cudagraph_mode=None),
            kv_transfer_config=start.transfer,
        )
        (halves.open_scheduler_half if rank is None else halves.open_worker_half)(config, KV)
    [line] = caplog.messages
    assert "the segment of the node replaces the cache server" in line


def test_each_half_attaches_as_what_it_is(start, ranks):
    assert isinstance(start(), halves.SchedulerHalf)
    worker = start(rank=3)
    assert isinstance(worker, halves.WorkerHalf)
    assert ranks.seen == [(KV, None), (KV, 3)]
    assert worker.take_report() is None


def test_events_are_those_of_the_scheduler(start, monkeypatch):
    monkeypatch.setattr(halves, "open_events", lambda attachment, config, kv: f"events of {kv}")
    assert start().events == "events of kv"


def test_a_scheduler_that_cannot_attach_runs_without_and_says_so_once(start, ranks, caplog):
    ranks.error = UnavailableError("no room for you")
    assert isinstance(start(), halves.NoCache)
    assert caplog.messages == ["LMCache: vLLM runs without the cache: no room for you"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_worker_that_cannot_attach_tells_the_scheduler(start, ranks, caplog):
    ranks.error = OSError("no room for you")
    report = start(rank=3).take_report()
    assert report == WorkerReport(ranks_off=1, reasons=["worker 3: no room for you"])
    assert [record.levelno for record in caplog.records] == [logging.INFO]


@pytest.mark.parametrize("rank", [None, 0])
def test_unexpected_errors_do_not_end_the_start(start, ranks, rank):
    ranks.error = AttributeError("a vLLM nobody has seen")
    assert start(rank) is not None


@pytest.mark.parametrize("rank", [None, 0])
def test_wrong_settings_end_the_start(start, ranks, rank):
    ranks.error = ConfigError("chunk_sice")
    with pytest.raises(ConfigError, match="chunk_sice"):
        start(rank)


def test_who_switches_the_cache_off_hears_nothing(start, ranks, caplog):
    assert isinstance(start(enable_prefix_cache=False), halves.NoCache)
    worker = start(rank=0, enable_prefix_cache=False)
    assert ranks.seen == []
    assert caplog.messages == []
    load = LoadPlan("r", [[1]], [[0]], [[[5]]], shares_last_block=False)
    worker.begin_step(StepPlan(loads=[load]))  # cannot come, and would still be answered
    worker.load()
    assert worker.take_bad_blocks() == {5}


def test_no_cache_finds_nothing_and_keeps_nothing():
    half = halves.NoCache()
    assert half.matched_tokens(object(), 0) == 0
    half.allocated(object(), 0)
    assert half.plan_step(object()) == StepPlan()
    assert half.plan_step(object()) is not half.plan_step(object())
    assert half.finished(object(), [1, 2]) is False
    half.take_report(WorkerReport(ranks_off=1))
    assert half.reset() is True
    assert half.tiers_of(object(), 0) == {}
    assert half.take_stats().data == {"healthy": 0.0}  # said once
    assert half.take_stats() is None
    half.close()


def test_no_cache_answers_all_that_the_real_half_answers():
    public = {name for name in vars(halves.SchedulerHalf) if not name.startswith("_")}
    assert public - set(dir(halves.NoCache)) <= {"give_up"}  # which only itself calls
