# SPDX-License-Identifier: Apache-2.0
"""Engines on segments of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lmcache import LMCacheEngine

MakeEngine = Callable[..., LMCacheEngine]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LMCACHE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Return a function that opens an engine with these settings, private and small by default."""
    with ExitStack() as opened:

        def make(*, model: str = "m", geometry: Any = None, **settings: Any) -> LMCacheEngine:
            small = {"segment": "private", "max_local_cpu_size": 0.03, "chunk_size": 16}
            engine = LMCacheEngine({**small, **settings}, model=model, geometry=geometry)
            opened.callback(engine.close)
            return engine

        yield make


@pytest.fixture
def segment() -> Iterator[str]:
    """Return a value of the setting `segment` that nobody else uses; it is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="lmcache-test-", dir="/dev/shm")
    yield f"{folder}/shared"
    shutil.rmtree(folder)
