# SPDX-License-Identifier: Apache-2.0
"""Which segment a command is about, and figures as people read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmcache.cli.node import (
    ago,
    amount,
    chosen_path,
    chosen_place,
    counted,
    gigabytes,
    percent,
)
from lmcache.config import SegmentPlace
from lmcache.errors import ConfigError, UnavailableError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LMCACHE_"):
            monkeypatch.delenv(name)


def test_the_configured_segment_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_place(None) == SegmentPlace("auto")
    monkeypatch.setenv("LMCACHE_SEGMENT", "mine")
    assert chosen_place(None) == SegmentPlace("mine", keep=True)
    assert chosen_place("auto") == SegmentPlace("auto")
    assert chosen_path("other") == Path(f"/dev/shm/lmcache-{os.geteuid()}-other")
    assert chosen_path("/mnt/x/other") == Path(f"/mnt/x/lmcache-{os.geteuid()}-other")


def test_the_path_of_a_file_is_understood(tmp_path: Path) -> None:
    file = tmp_path / f"lmcache-{os.geteuid()}-a-name-with-dashes"
    file.touch()
    assert chosen_path(str(file)) == file


def test_a_private_segment_has_no_outside() -> None:
    with pytest.raises(UnavailableError, match="private segment is that of one process"):
        chosen_path("private")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "x" * 65])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a segment"):
        chosen_path(name)


def test_figures() -> None:
    assert [counted(count, "chunk") for count in (0, 1, 12_345)] == [
        "0 chunks",
        "1 chunk",
        "12.3 k chunks",
    ]
    assert [gigabytes(size) for size in (0, 999, 1500, 2.5e6, 3e9, 4.2e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "3.0 GB",
        "4.2 TB",
    ]
    assert [amount(count) for count in (0, 9999, 12_345, 9_999_999, 2e10)] == [
        "0",
        "9999",
        "12.3 k",
        "10.0 M",
        "20.0 G",
    ]
    assert (percent(1, 3), percent(0, 5), percent(0, 0)) == ("33.3 %", "0.0 %", "-")
    assert [ago(span) for span in (-1, 59, 61, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "2 d",
    ]
