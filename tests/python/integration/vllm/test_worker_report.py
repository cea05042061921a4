# SPDX-License-Identifier: Apache-2.0
"""Reports of several ranks add up."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="reports are vLLM's metadata")

from lmcache.integration.vllm.worker_report import WorkerReport


def test_ranks_add_up():
    total = WorkerReport([1]).aggregate(WorkerReport(ranks_off=1, reasons=["worker 1: no room"]))
    assert total == WorkerReport([1], 1, ["worker 1: no room"])
    assert total.aggregate(WorkerReport([2], ranks_off=1)).ranks_off == 2
