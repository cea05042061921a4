# SPDX-License-Identifier: Apache-2.0
"""No engine of another test, no setting from outside."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from lmcache.observe import engine_stats


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LMCACHE_"):
            monkeypatch.delenv(name)
    assert engine_stats.open_engines() == []


@pytest.fixture
def segment() -> Iterator[str]:
    """Return a value of the setting `segment` that nobody else uses; it is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="lmcache-test-", dir="/dev/shm")
    yield f"{folder}/shared"
    shutil.rmtree(folder)
