# SPDX-License-Identifier: Apache-2.0
"""Output for people and for programs."""

from __future__ import annotations

import json

import pytest

from lmcache.cli.console import console, print_error, print_json, print_warning


def test_messages_go_to_stderr_unfolded_and_unparsed(capsys: pytest.CaptureFixture[str]) -> None:
    long = "[bold] " + "word " * 100
    print_error(long)
    print_warning(long)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {long}\nwarning: {long}\n"


def test_json_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"b": [1, None], "a": "ü" * 300}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "\x1b" not in out
    assert out.index('"b"') < out.index('"a"')


def test_a_pipe_is_not_folded_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"
