# SPDX-License-Identifier: Apache-2.0
"""The repository under test, and a way to write a small tree that breaks a rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PlantTree = Callable[[dict[str, str]], Path]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of this repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def plant(tmp_path: Path) -> PlantTree:
    """Return a function that writes files {path: text} and returns their root."""

    def write(files: dict[str, str]) -> Path:
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path

    return write
