# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm`; that it measures a real vLLM is tested in tests/vllm."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from lmcache.bench.vllm_figures import VllmBench

FIGURES = {
    "ttft_native_cold": 2.0,
    "ttft_native_hit": 0.1,
    "ttft_cold": 2.0,
    "ttft_warm": 0.1,
    "ttft_restart": 0.1,
    "warm_over_native_hit": 1.0,
    "cold_overhead": 1.03,
    "tpot_overhead": 1.01,
    "identical": True,
}
MODEL = {
    "num_attention_heads": 2,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "vocab_size": 500,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[VllmBench]:
    """What would have been measured."""
    seen: list[VllmBench] = []
    command = importlib.import_module("lmcache.cli.bench.vllm")  # the package exports its function
    monkeypatch.setattr(command, "measure", lambda bench, _tell: seen.append(bench) or FIGURES)
    return seen


def test_options_arrive(run: Any, model: Path, asked: list[VllmBench]) -> None:
    done = run("bench", "vllm", "--model", str(model), "--rounds", "3", "--prompt-tokens", "99")
    assert done.status == 0, done.err
    [bench] = asked
    assert (bench.rounds, bench.prompt_tokens, bench.vocabulary) == (3, 99, 500)
    assert bench.segment.startswith("bench-")


def test_json(run: Any, model: Path, asked: list[VllmBench]) -> None:
    assert json.loads(run("bench", "vllm", "--model", str(model), "--json").out) == FIGURES
    assert len(asked) == 1


@pytest.mark.usefixtures("asked")
def test_the_table_says_what_was_reached(run: Any, model: Path) -> None:
    out = run("bench", "vllm", "--model", str(model)).out
    [cold] = (line for line in out.splitlines() if "cold / vLLM alone" in line)
    [warm] = (line for line in out.splitlines() if "warm / vLLM's own hit" in line)
    assert "missed" in cold
    assert "reached" in warm


def test_no_model(run: Any, tmp_path: Path) -> None:
    done = run("bench", "vllm", "--model", str(tmp_path / "missing"))
    assert done.status == 2
    assert "no model there" in done.err
