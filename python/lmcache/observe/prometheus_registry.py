# SPDX-License-Identifier: Apache-2.0
"""Metrics in the registry of this process, which every engine in it shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase


def registered(kind: Any, name: str, text: str, labels: Sequence[str], **options: Any) -> Any:
    """Make a metric of a class, or return the one that an earlier engine has registered.

    vLLM unregisters its own metrics for each new engine, but not those of others. A class that is
    none of Prometheus' own registers elsewhere, and its metrics are made anew.
    """
    if issubclass(kind, MetricWrapperBase):
        known: Any = REGISTRY._names_to_collectors.get(name)
        if type(known) is kind:
            if list(known._labelnames) == list(labels):
                return known
            REGISTRY.unregister(known)
    return kind(name=name, documentation=text, labelnames=list(labels), **options)
