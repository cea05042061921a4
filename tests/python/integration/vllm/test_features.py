# SPDX-License-Identifier: Apache-2.0
"""Features are read from the sources of a vLLM, whichever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lmcache.integration.vllm import features
from lmcache.integration.vllm.features import FEATURES, installed_vllm, read_features

BASE = "distributed/kv_transfer/kv_connector/v1/base.py"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a source file of a made-up vLLM."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path

    return write


def test_the_installed_one_has_them_all():
    pytest.importorskip("vllm", reason="its sources are read")
    assert [name for name, there in read_features(installed_vllm()).items() if not there] == []


def test_classes_methods_and_fields_are_told_apart(write):
    write(BASE, "class KVConnectorBase_V1:\n    def take_events(self): ...\n")
    folder = write(
        "config/kv_transfer.py", "class KVTransferConfig:\n    kv_load_failure_policy: str"
    )
    found = {name for name, there in read_features(folder).items() if there}
    assert found == {"KV events", "load-failure policy"}


@pytest.mark.parametrize("text", ["def (", "# SupportsHMA", "SupportsHMA = None", "\0"])
def test_what_cannot_be_read_is_not_there(write, text):
    assert not any(read_features(write(BASE, text)).values())


def test_nothing_there(tmp_path, monkeypatch):
    assert read_features(tmp_path) == dict.fromkeys(FEATURES, False)
    monkeypatch.setattr(features.importlib.util, "find_spec", lambda name: None)
    assert installed_vllm() is None


def test_nothing_is_imported():
    code = (
        "import sys; from lmcache.integration.vllm import features as f; "
        "folder = f.installed_vllm(); folder and f.read_features(folder); "
        "print([name for name in ('vllm', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
