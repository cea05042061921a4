# SPDX-License-Identifier: Apache-2.0
"""The native library and the versions of others."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

from lmcache.cli.doctor.packages import check_features, check_native, check_packages


def test_native_library_missing() -> None:
    def load() -> None:
        raise ImportError("liblmcache.so: cannot open shared object file")

    check = check_native(load)
    assert (check.status, check.found) == ("fail", "liblmcache.so: cannot open shared object file")
    assert "pip install" in check.advice


def test_native_library_present() -> None:
    assert check_native(lambda: None).status == "ok"


def test_versions() -> None:
    check = check_packages({"vllm": "0.32.0", "torch": "2.13.0"}.__getitem__)
    assert (check.status, check.found) == ("ok", "vllm 0.32.0, torch 2.13.0")


def test_vllm_missing() -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    check = check_packages(version)
    assert (check.status, check.found) == ("warn", "vllm not installed, torch not installed")
    assert "lmcache[vllm]" in check.advice


def test_features_found() -> None:
    check = check_features("9.9", {"KV events": True, "cache reset": True})
    assert (check.status, check.found) == ("ok", "vllm 9.9: KV events, cache reset")


def test_features_missing() -> None:
    check = check_features("9.9", {"KV events": True, "cache reset": False})
    assert check.status == "warn"
    assert check.found == "vllm 9.9: KV events; without cache reset"
    assert "later vLLM" in check.advice


def test_no_vllm_has_no_features() -> None:
    assert check_features(None, {}).status == "warn"


def test_nothing_is_imported_to_learn_a_version() -> None:
    code = (
        "import sys; from lmcache.cli.doctor.packages import check_packages; check_packages(); "
        "print([name for name in ('vllm', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
