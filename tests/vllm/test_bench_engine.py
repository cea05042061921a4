# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm` on real vLLM processes, as short as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

OPTIONS = ["--rounds", "2", "--prompt-tokens", "300", "--decode-tokens", "5", "--json"]


WORKLOAD = ["--requests", "2", "--prompt-tokens", "600", "--decode-tokens", "5", "--json"]


def figures(model: Path, *options: str) -> dict[str, Any]:
    """Run it; its segment is gone afterwards."""
    before = set(Path("/dev/shm").glob("lmcache-*-bench-*"))
    command = [sys.executable, "-m", "lmcache.cli", "bench", "vllm", "--model", str(model)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert set(Path("/dev/shm").glob("lmcache-*-bench-*")) <= before
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["identical"] is True
    return found


@pytest.mark.multiprocess
def test_bench_vllm(tiny_model: Path) -> None:
    found = figures(tiny_model, *OPTIONS)
    times = {name: value for name, value in found.items() if name.startswith("ttft_")}
    assert len(times) == 5
    assert all(value > 0 for value in times.values())


@pytest.mark.multiprocess
def test_conversations(tiny_model: Path, tmp_path: Path) -> None:
    # How many tokens a word has depends on the standard library that the tokenizer was trained on.
    each = len(AutoTokenizer.from_pretrained(tiny_model)("Fine. " * 100)["input_ids"]) / 100
    texts = ["How are you?", "Fine. " * round(700 / each), *["And now?", "Better. " * 5] * 4]
    messages = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    file = tmp_path / "talks.json"
    file.write_text(json.dumps([{"conversations": messages}]))
    found = figures(
        tiny_model, "--workload", "multi-round", "--conversations", str(file), *WORKLOAD
    )
    assert found["requests"] == 3
    # All but the question, and the last token of the answer, whose KV nobody computed.
    assert 0.9 * found["prompt_tokens"] < found["hit_tokens"] < found["prompt_tokens"]


@pytest.mark.multiprocess
def test_a_batch(tiny_model: Path) -> None:
    found = figures(tiny_model, "--workload", "batch", *WORKLOAD)
    assert found["requests"] == 4
    assert found["hit_tokens"] > 0.8 * found["prompt_tokens"]


@pytest.mark.multiprocess
def test_nothing_in_common(tiny_model: Path) -> None:
    found = figures(tiny_model, "--workload", "no-reuse", *WORKLOAD)
    assert found["requests"] == 2
    assert found["hit_tokens"] == 0
    assert found["throughput_ratio_idle"] > 0
