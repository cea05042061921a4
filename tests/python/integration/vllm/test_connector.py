# SPDX-License-Identifier: Apache-2.0
"""What vLLM calls reaches the half it is for, and the answers have vLLM's shape."""

from __future__ import annotations

import gc
import types

import pytest

pytest.importorskip("vllm", reason="the connector is vLLM's")

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorRole
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from lmcache.integration.vllm import connector as module
from lmcache.integration.vllm.connector import LMCacheConnector
from lmcache.integration.vllm.stats import LMCacheStats
from lmcache.integration.vllm.step_plan import StepPlan


class Half:
    """Either half: writes down what it is asked."""

    def __init__(self, *made_from):
        self.made_from = made_from
        self.calls = []
        self.stats = LMCacheStats()
        self.loads_ahead = False
        self.events = None

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            return f"answer of {name}"

        return call


@pytest.fixture
def make(monkeypatch):
    """Return a function that makes a connector of a role around a recording half."""
    made = {}

    def opener(kind):
        def open_half(*arguments):
            made[kind] = Half(*arguments)
            return made[kind]

        return open_half

    monkeypatch.setattr(module, "open_scheduler_half", opener("SCHEDULER"))
    monkeypatch.setattr(module, "open_worker_half", opener("WORKER"))

    def start(role):
        made.clear()
        config = types.SimpleNamespace(kv_transfer_config=types.SimpleNamespace())
        kv = types.SimpleNamespace(num_blocks=16)
        connector = LMCacheConnector(config, KVConnectorRole[role], kv)
        assert list(made) == [role]  # and no other half
        assert made[role].made_from == (config, kv)
        return connector, made[role]

    return start


@pytest.mark.parametrize(
    ("role", "method", "arguments", "call", "answer"),
    [
        ("WORKER", "register_kv_caches", ({"a": 1},), ("register", {"a": 1}, 16), None),
        ("WORKER", "bind_connector_metadata", ("plan",), ("begin_step", "plan"), None),
        ("WORKER", "handle_preemptions", ("plan",), ("free_blocks", "plan"), None),
        ("WORKER", "start_load_kv", ("context",), ("load",), None),
        ("WORKER", "wait_for_layer_load", ("layer0",), ("wait_for_layer", "layer0"), None),
        ("WORKER", "wait_for_save", (), ("store",), None),
        ("WORKER", "get_finished", ({"r"},), ("take_ended",), ("=", None)),
        ("WORKER", "get_block_ids_with_load_errors", (), ("take_bad_blocks",), "="),
        ("WORKER", "build_connector_worker_meta", (), ("take_report",), "="),
        ("WORKER", "get_kv_connector_stats", (), ("take_stats",), "="),
        ("WORKER", "shutdown", (), ("close",), None),
        (
            "SCHEDULER",
            "get_num_new_matched_tokens",
            ("request", 3),
            ("matched_tokens", "request", 3),
            ("=", False),
        ),
        (
            "SCHEDULER",
            "update_state_after_alloc",
            ("request", "blocks", 3),
            ("allocated", "request", 3, "blocks"),
            None,
        ),
        (
            "SCHEDULER",
            "request_finished",
            ("request", [1]),
            ("finished", "request", ([1],)),
            ("=", None),
        ),
        (
            "SCHEDULER",
            "request_finished_all_groups",
            ("request", ([1, 2],)),
            ("finished", "request", ([1, 2],)),
            ("=", None),
        ),
        (
            "SCHEDULER",
            "request_finished_all_groups",
            ("request", ()),
            ("finished", "request", ()),
            ("=", None),
        ),
        ("SCHEDULER", "get_kv_connector_stats", (), ("take_stats",), "="),
        ("SCHEDULER", "reset_cache", (), ("reset",), "="),
        ("SCHEDULER", "shutdown", (), ("close",), None),
    ],
)
def test_calls_are_passed_on(make, role, method, arguments, call, answer):
    connector, half = make(role)
    got = getattr(connector, method)(*arguments)
    assert half.calls == [call]
    of_half = f"answer of {call[0]}"
    if isinstance(answer, tuple):
        answer = tuple(of_half if part == "=" else part for part in answer)
    assert got == (of_half if answer == "=" else answer)


def test_layers_are_not_saved_one_by_one(make):
    connector, half = make("WORKER")
    connector.save_kv_layer("layer0", object(), object())
    assert half.calls == []


def test_a_bound_plan_is_vllms_as_well(make):
    connector, _ = make("WORKER")
    connector.bind_connector_metadata("plan")
    assert connector._get_connector_metadata() == "plan"
    connector.clear_connector_metadata()
    assert connector._connector_metadata is None


@pytest.mark.parametrize("by_layer", [False, True])
def test_layers_call_only_while_loads_go_layer_by_layer(make, by_layer):
    connector, half = make("WORKER")
    half.loads = object() if by_layer else None
    assert connector.has_connector_metadata() is by_layer


def test_only_reports_that_were_sent_are_taken(make):
    connector, half = make("SCHEDULER")
    connector.update_connector_output(types.SimpleNamespace(kv_connector_worker_meta=None))
    assert half.calls == []
    connector.update_connector_output(types.SimpleNamespace(kv_connector_worker_meta="report"))
    assert half.calls == [("take_report", "report")]


@pytest.mark.parametrize(
    ("role", "method", "arguments"),
    [("SCHEDULER", "wait_for_save", ()), ("WORKER", "build_connector_meta", ("output",))],
)
def test_a_call_for_the_other_half_is_a_mistake(make, role, method, arguments):
    connector, _ = make(role)
    with pytest.raises(AssertionError, match="called in"):
        getattr(connector, method)(*arguments)


def test_questions_and_stores_are_counted(make):
    connector, half = make("SCHEDULER")
    connector.get_num_new_matched_tokens("request", 3)
    (seconds,) = half.stats.take().data["lookup_times"]
    assert 0 < seconds < 1
    plans = [StepPlan(), StepPlan(stores=[None, None])]
    half.plan_step = lambda output: plans[output]
    assert [connector.build_connector_meta(step) for step in (0, 1)] == plans
    assert half.stats.take().data == {"stores": 2}


def test_hits_are_told_by_vllms_names_of_tiers(make):
    connector, half = make("SCHEDULER")
    half.tiers_of = lambda request, tokens: {"dram": 3, "disk": 2, "remote": tokens - 5}
    assert connector.get_external_cache_hit_sources("request", 9) == {
        CacheHitSource.HOST: 3,
        CacheHitSource.DISK: 2,
        CacheHitSource.EXTERNAL_UNSPECIFIED: 4,
    }
    half.tiers_of = lambda request, tokens: {}
    assert connector.get_external_cache_hit_sources("request", 9) == {CacheHitSource.HOST: 9}
    assert connector.get_external_cache_hit_sources("request", 0) == {}


def test_events_are_passed_on_and_a_reset_is_one(make):
    connector, half = make("SCHEDULER")
    half.events = Half()
    assert connector.take_events() == "answer of take"
    connector.reset_cache()
    assert half.events.calls == [("take",), ("cleared",)]


def test_statistics_of_another_process_are_put_together_again():
    stats = LMCacheConnector.build_kv_connector_stats({"lookups": 2})
    assert isinstance(stats, LMCacheStats)
    assert stats.data == {"lookups": 2}
    assert LMCacheConnector.build_kv_connector_stats().is_empty()


@pytest.mark.parametrize("name", ["use_layerwise", "lmcache.use_layerwise"])
@pytest.mark.parametrize(
    ("value", "needed"),
    [(True, True), ("true", True), ("1", True), (1, True), (False, False), ("auto", False)],
)
def test_graphs_are_cut_only_where_layers_must_be_waited_for(name, value, needed):
    assert LMCacheConnector.requires_piecewise_for_cudagraph({name: value}) is needed
    assert LMCacheConnector.requires_piecewise_for_cudagraph({}) is False


def test_stores_may_be_dropped_and_nothing_is_announced(make):
    connector, _ = make("SCHEDULER")
    assert connector.requires_kv_delivery is False
    assert list(connector.take_events()) == []


def test_a_connector_that_is_forgotten_closes_its_half(make):
    connector, half = make("WORKER")
    del connector
    gc.collect()
    assert half.calls == [("close",)]


def test_every_method_overridden_is_one_vllm_knows():
    own = {name for name in vars(LMCacheConnector) if not name.startswith("_")}
    of_vllm = set(dir(KVConnectorBase_V1)) | {"request_finished_all_groups"}
    assert own - of_vllm == set()


@pytest.mark.parametrize(("found", "waits"), [(3, True), (0, False), (None, False)])
def test_requests_wait_in_the_queue_for_what_is_loaded_ahead(make, found, waits):
    connector, half = make("SCHEDULER")
    half.loads_ahead = True
    half.matched_tokens = lambda request, computed: found
    assert connector.get_num_new_matched_tokens("request", 0) == (found, waits)


def test_failed_loads_reach_the_scheduler(make):
    connector, half = make("SCHEDULER")
    output = types.SimpleNamespace(kv_connector_worker_meta=None, failed_recving={"r"})
    connector.update_connector_output(output)
    assert half.calls == [("take_failed", {"r"})]


def test_requests_that_wait_no_more_are_told_with_the_others(make):
    connector, half = make("WORKER")
    half.take_arrived = lambda: ({"a", "b"}, {"b"})
    half.take_ended = lambda: {"c"}
    results = connector.get_transfer_results(set())
    assert results.finished_sending == {"c"}
    assert results.finished_recving == {"a", "b"}
    assert results.failed_recving == {"b"}
