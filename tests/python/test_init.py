# SPDX-License-Identifier: Apache-2.0
"""Importing the package is light, and its lazy names are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lmcache

# What a program that merely imports lmcache must not pay for.
HEAVY = ("torch", "vllm", "numpy", "pydantic", "yaml", "typer", "rich", "lmcache._native")


def test_import_loads_nothing_heavy() -> None:
    code = f"import lmcache, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_configuration_needs_neither_torch_nor_numpy_nor_the_native_library() -> None:
    heavy = ("torch", "vllm", "numpy", "lmcache._native")
    code = (
        "import lmcache, sys; lmcache.LMCacheConfig(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lazy_names() -> None:
    from lmcache.config import LMCacheConfig

    assert lmcache.LMCacheConfig is LMCacheConfig
    assert {"LMCacheEngine", "LMCacheConfig", "get_cache_stats"} <= set(dir(lmcache))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lmcache.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("find", "witness"),
    [
        (lmcache.include_dir, "include/lmcache"),
        (lmcache.cmake_dir, "lib/cmake/lmcache/lmcacheConfig.cmake"),
    ],
)
def test_installed_folders(find, witness, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(lmcache, "__path__", [str(tmp_path / "sources"), str(tmp_path / "built")])
    with pytest.raises(FileNotFoundError, match="pip install"):
        find()
    (tmp_path / "built" / witness).mkdir(parents=True)
    assert (tmp_path / "built" / witness).is_relative_to(find())
