# SPDX-License-Identifier: Apache-2.0
"""Metrics that several engines of a process make."""

from __future__ import annotations

import uuid

import pytest

pytest.importorskip("prometheus_client", reason="it comes with vLLM")

from prometheus_client import REGISTRY, Counter, Gauge

from lmcache.observe.prometheus_registry import registered


@pytest.fixture
def name():
    """A name that only this test registers."""
    name = f"test:n{uuid.uuid4().hex}"
    yield name
    known = REGISTRY._names_to_collectors.get(name)
    if known is not None:
        REGISTRY.unregister(known)


def test_the_second_engine_gets_the_same_metric(name):
    one = registered(Counter, name, "text", ["engine"])
    one.labels("0").inc()
    assert registered(Counter, name, "text", ("engine",)) is one
    assert REGISTRY.get_sample_value(f"{name}_total", {"engine": "0"}) == 1


def test_other_labels_replace_it(name):
    one = registered(Gauge, name, "text", ["engine"])
    two = registered(Gauge, name, "text", ["model"], multiprocess_mode="mostrecent")
    assert two is not one
    two.labels("m").set(3)
    assert REGISTRY.get_sample_value(name, {"model": "m"}) == 3


def test_a_name_of_another_kind_is_a_mistake(name):
    registered(Counter, name, "text", [])
    with pytest.raises(ValueError, match="Duplicated"):
        registered(Gauge, name, "text", [])


def test_other_classes_are_left_alone(name):
    class Plain:
        def __init__(self, **options):
            self.options = options

    made = registered(Plain, name, "text", ["engine"])
    assert made.options == {"name": name, "documentation": "text", "labelnames": ["engine"]}
    assert registered(Plain, name, "text", ["engine"]) is not made
