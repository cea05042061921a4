# SPDX-License-Identifier: Apache-2.0
"""Packages: is our native library there, which vLLM and torch are installed."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from importlib import metadata

from lmcache.cli.doctor.check import Check


def _load_native() -> None:
    importlib.import_module("lmcache._native")


def check_native(load: Callable[[], None] = _load_native) -> Check:
    """Load the native library, without which there is no engine."""
    found = f"for Python {platform.python_version()}"
    try:
        load()
    except ImportError as error:
        advice = "`pip install .` in the sources, with the Python that is to use it"
        return Check("native library", "fail", str(error), advice)
    return Check("native library", "ok", found)


def check_packages(version: Callable[[str], str] = metadata.version) -> Check:
    """Name the versions of vLLM and torch, from their metadata: importing them takes seconds."""
    found = {name: _version_or_none(name, version) for name in ("vllm", "torch")}
    text = ", ".join(f"{name} {told or 'not installed'}" for name, told in found.items())
    if found["vllm"] is None:
        return Check("vLLM", "warn", text, "to use the cache in vLLM: `pip install lmcache[vllm]`")
    return Check("vLLM", "ok", text)


def _version_or_none(name: str, version: Callable[[str], str]) -> str | None:
    try:
        return version(name)
    except metadata.PackageNotFoundError:
        return None
