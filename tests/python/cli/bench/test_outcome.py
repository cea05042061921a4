# SPDX-License-Identifier: Apache-2.0
"""The table of a measurement."""

from __future__ import annotations

import pytest

from lmcache.cli.bench.outcome import Row, print_rows, progress


def test_targets_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(
        [Row("a", "1"), Row("b", "2", "<= 3", reached=True), Row("c", "4", "<= 3", reached=False)]
    )
    first, second, third = capsys.readouterr().out.splitlines()[-3:]
    assert first.split() == ["a", "1"]
    assert second.split() == ["b", "2", "<=", "3", "reached"]
    assert third.split() == ["c", "4", "<=", "3", "missed"]


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as tell:
        tell("working")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
