# SPDX-License-Identifier: Apache-2.0
"""Statistics in Prometheus' own registry, with vLLM's labels."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="the base class is vLLM's")

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from lmcache.integration.vllm.prom_metrics import PromMetrics

CONFIG = types.SimpleNamespace(kv_transfer_config=None)
TYPES = {Counter: Counter, Gauge: Gauge, Histogram: Histogram}
LABELS = ["model_name", "engine"]


@pytest.fixture(autouse=True)
def clean():
    """Leave the registry of this process as it was."""
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def metrics(*engines, labels=LABELS, model="m"):
    values = {engine: [model, str(engine)][: len(labels)] for engine in engines}
    return PromMetrics(CONFIG, TYPES, labels, values)


def value(name, engine=0, model="m", **labels):
    return REGISTRY.get_sample_value(name, {"model_name": model, "engine": str(engine), **labels})


def test_counters_are_there_as_zero_and_then_add_up():
    made = metrics(0)
    assert value("lmcache:lookups_total") == 0
    made.observe({"lookups": 2, "hit_tokens": 10})
    made.observe({"lookups": 1})
    assert value("lmcache:lookups_total") == 3
    for alias in ("lmcache:num_lookup_requests_total", "lmcache_mp_lookups_total"):
        assert value(alias) == 3
    assert value("lmcache_mp_lookup_hit_total") == 10


def test_labels_split_a_metric_by_reason_and_tier():
    metrics(0).observe({"dropped_no_space": 4, "disk_hit_tokens": 7})
    assert value("lmcache:dropped_chunks_total", reason="no_space") == 4
    assert value("lmcache:dropped_chunks_total", reason="too_large") == 0
    assert value("lmcache:local_cpu_evict_failed_count_total") == 4
    assert value("lmcache:hit_tokens_by_tier_total", tier="disk") == 7


def test_gauges_say_the_last_and_nothing_before_the_first():
    made = metrics(0)
    assert value("lmcache:dram_used_bytes") is None
    made.observe({"dram_used_bytes": 5, "healthy": 1.0})
    made.observe({"dram_used_bytes": 3})
    assert value("lmcache:dram_used_bytes") == value("lmcache:local_cache_usage") == 3
    assert value("lmcache:lmcache_is_healthy") == 1


def test_histograms_take_each_measurement():
    metrics(0).observe({"load_times": [0.002, 0.2]})
    for name in ("lmcache:load_time_seconds", "lmcache:time_to_retrieve"):
        assert value(f"{name}_count") == 2
        assert value(f"{name}_sum") == pytest.approx(0.202)
        assert value(f"{name}_bucket", le="0.005") == 1


def test_rates_are_of_late():
    made = metrics(0)
    assert value("lmcache:lookup_hit_rate") is None
    made.observe({"hit_tokens": 0, "lookup_tokens": 100})
    assert value("lmcache:lookup_hit_rate") == 0.0
    for _ in range(50):
        made.observe({"hit_tokens": 100, "lookup_tokens": 100})
        made.observe({"loads": 1})  # says nothing about it
    assert value("lmcache:lookup_hit_rate") == pytest.approx(50 / 51)
    for _ in range(100):
        made.observe({"hit_tokens": 100, "lookup_tokens": 100})
    assert value("lmcache:lookup_hit_rate") == 1.0


def test_several_engines_behind_one_front_have_series_of_their_own():
    made = metrics(0, 1)
    made.observe({"lookups": 1}, 0)
    made.observe({"lookups": 5}, 1)
    assert (value("lmcache:lookups_total", 0), value("lmcache:lookups_total", 1)) == (1, 5)


def test_engines_one_after_the_other_in_one_process_register_once():
    metrics(0).observe({"lookups": 1})
    metrics(0).observe({"lookups": 2})
    metrics(0, model="n").observe({"lookups": 4})
    assert value("lmcache:lookups_total") == 3
    assert value("lmcache:lookups_total", model="n") == 4


def test_other_labels_make_other_metrics():
    metrics(0).observe({"lookups": 1})
    metrics(0, labels=["model_name"]).observe({"lookups": 2})
    assert REGISTRY.get_sample_value("lmcache:lookups_total", {"model_name": "m"}) == 2


def test_classes_that_do_not_register_are_made_anew():
    class Plain:
        """What vLLM uses instead under Ray: a class of its own."""

        made = 0

        def __init__(self, name, documentation, labelnames, **options):
            type(self).made += 1

        def labels(self, *values):
            return self

        def inc(self, amount):
            pass

    kinds = {Counter: Plain, Gauge: Plain, Histogram: Plain}
    for _ in range(2):
        PromMetrics(CONFIG, kinds, LABELS, {0: ["m", "0"]}).observe({"lookups": 1})
    assert Plain.made > 2
    assert value("lmcache:lookups_total") is None
