# SPDX-License-Identifier: Apache-2.0
"""Packages: is our native library there, which vLLM and torch are installed, what can vLLM do."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from importlib import metadata

from lmcache.cli.doctor.check import Check
from lmcache.integration.vllm.features import installed_vllm, read_features

FEATURES = "vLLM features"


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


def check_features(version: str | None, found: dict[str, bool]) -> Check:
    """Name what the installed vLLM offers of what the connector uses."""
    if version is None or not found:
        return Check(FEATURES, "warn", "no vLLM to look at", "see vLLM above")
    there = [name for name, is_there in found.items() if is_there]
    missing = [name for name, is_there in found.items() if not is_there]
    told = f"vllm {version}: {', '.join(there) or 'none'}"
    if not missing:
        return Check(FEATURES, "ok", told)
    advice = "the cache does without; a later vLLM has them"
    return Check(FEATURES, "warn", f"{told}; without {', '.join(missing)}", advice)


def vllm_features() -> tuple[str | None, dict[str, bool]]:
    """Return version and features of the installed vLLM, without importing it."""
    folder = installed_vllm()
    version = _version_or_none("vllm", metadata.version)
    return version, {} if folder is None else read_features(folder)


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
