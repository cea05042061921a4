# SPDX-License-Identifier: Apache-2.0
"""The connector's metrics on vLLM's `/metrics`, with vLLM's labels."""

from __future__ import annotations

from collections import deque
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics

from lmcache.integration.vllm.metric_names import RATES, Rate, Series, exposed
from lmcache.observe.prometheus_registry import registered

# A rate is over so many reports of vLLM that had something to say about it.
_RECENT = 100


class PromMetrics(KVConnectorPromMetrics):
    """One thread: the one that vLLM logs on.

    Two engines of one process share metrics, as they share the registry; what both have the same
    labels for adds up.
    """

    def __init__(
        self,
        vllm_config: Any,
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[Any]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._series = [(series, self._metric(series)) for series in exposed()]
        self._rates = [(rate, self._gauge(rate.name, rate.help)) for rate in RATES]
        self._children: dict[tuple[str, int, str], Any] = {}
        self._recent: dict[tuple[str, int], deque[tuple[float, float]]] = {}
        for engine in per_engine_labelvalues:  # so that all are there, as 0, from the start
            for series, metric in self._series:
                if series.kind != "gauge":
                    for value in series.sources:
                        self._child(series, metric, engine, value)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Add what one engine counted since the last call."""
        for series, metric in self._series:
            for value, source in series.sources.items():
                amount = transfer_stats_data.get(source)
                if amount is not None:
                    _record(series, self._child(series, metric, engine_idx, value), amount)
        for rate, gauge in self._rates:
            recent = self._rate(rate, engine_idx, transfer_stats_data)
            if recent is not None:
                gauge.labels(*self.per_engine_labelvalues[engine_idx]).set(recent)

    def _rate(self, rate: Rate, engine: int, data: dict[str, Any]) -> float | None:
        part, whole = data.get(rate.part, 0), data.get(rate.whole, 0)
        if not part and not whole:
            return None
        window = self._recent.setdefault((rate.name, engine), deque(maxlen=_RECENT))
        window.append((part, whole))
        total = sum(entry[1] for entry in window)
        return sum(entry[0] for entry in window) / total if total else None

    def _child(self, series: Series, metric: Any, engine: int, value: str) -> Any:
        key = (series.name, engine, value)
        child = self._children.get(key)
        if child is None:
            labels = list(self.per_engine_labelvalues[engine]) + ([value] if series.label else [])
            child = self._children[key] = metric.labels(*labels)
        return child

    def _metric(self, series: Series) -> Any:
        labels = [*self._labelnames, *([series.label] if series.label else [])]
        if series.kind == "gauge":
            return self._gauge(series.name, series.help)
        if series.kind == "counter":
            return registered(self._counter_cls, series.name, series.help, labels)
        return registered(
            self._histogram_cls,
            series.name,
            series.help,
            labels,
            buckets=list(series.buckets),
        )

    def _gauge(self, name: str, text: str) -> Any:
        # Of several processes that serve one engine, the one that was told last is right.
        return registered(
            self._gauge_cls, name, text, self._labelnames, multiprocess_mode="mostrecent"
        )


def _record(series: Series, child: Any, amount: Any) -> None:
    if series.kind == "counter":
        child.inc(amount)
    elif series.kind == "gauge":
        child.set(amount)
    else:
        for value in amount:
            child.observe(value)
