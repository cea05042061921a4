# SPDX-License-Identifier: Apache-2.0
"""Real vLLM on the CPU, in this process: engines one after the other, each with a segment of the
test's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before vLLM is imported. In one process a test can look at both halves and make calls fail.
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}
for _name in [
    name for name in os.environ if name.startswith("LMCACHE_") or "ENABLE_LMCACHE" in name
]:
    if not _name.startswith("LMCACHE_VENV"):
        del os.environ[_name]

import pytest  # noqa: E402

pytest.importorskip("vllm", reason="vLLM is not installed")

from served_llm import ServedLLM  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """A model of 3 million random weights with a real tokenizer."""
    folder = ROOT / "build" / "models" / "tiny-llama"
    if not (folder / "config.json").exists():
        script = ROOT / "scripts" / "make_tiny_model.py"
        subprocess.run([sys.executable, script, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct."""
    folder = ROOT / "build" / "models" / "smollm2-135m"
    if not (folder / "config.json").exists():
        pytest.skip("build/models/smollm2-135m is not there: run scripts/get_model.py")
    return folder


@pytest.fixture(scope="module")
def segment() -> Iterator[str]:
    """The name of a segment that only this module uses; removed at the end."""
    from lmcache import _native

    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    path = Path(_native.segment_path(name))
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def open_llm(tiny_model: Path) -> Iterator[Callable[..., ServedLLM]]:
    """Return a function that starts vLLM; what it started before is shut down first, and all at the
    end.
    """
    running: list[ServedLLM] = []

    def close() -> None:
        while running:
            running.pop().close()

    def start(**settings: Any) -> ServedLLM:
        close()
        settings.setdefault("model", str(tiny_model))
        running.append(ServedLLM(**settings))
        return running[0]

    yield start
    close()
