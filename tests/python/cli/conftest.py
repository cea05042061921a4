# SPDX-License-Identifier: Apache-2.0
"""Running `lmcache` inside the test process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lmcache.cli import app as program


@dataclass(frozen=True)
class Outcome:
    """What a run of the program left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `lmcache ARGUMENTS...` without settings in the environment."""
    for name in list(os.environ):
        if name.startswith("LMCACHE_"):
            monkeypatch.delenv(name)

    def runner(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["lmcache", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return runner


@pytest.fixture
def segment() -> Iterator[str]:
    """Return a value of the setting `segment` that nobody else uses; it is removed afterwards."""
    folder = tempfile.mkdtemp(prefix="lmcache-test-", dir="/dev/shm")
    yield f"{folder}/shared"
    shutil.rmtree(folder)
