# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm` on real vLLM processes, as short as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = ["--rounds", "2", "--prompt-tokens", "300", "--decode-tokens", "5", "--json"]


@pytest.mark.multiprocess
def test_bench_vllm(tiny_model: Path) -> None:
    before = set(Path("/dev/shm").glob("lmcache-*-bench-*"))
    command = [sys.executable, "-m", "lmcache.cli", "bench", "vllm", "--model", str(tiny_model)]
    done = subprocess.run([*command, *OPTIONS], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["identical"] is True
    times = {name: value for name, value in figures.items() if name.startswith("ttft_")}
    assert len(times) == 5
    assert all(value > 0 for value in times.values())
    assert set(Path("/dev/shm").glob("lmcache-*-bench-*")) <= before  # the segment is gone
