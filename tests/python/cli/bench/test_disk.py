# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench disk`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmcache.cli.bench.disk import chunk_sizes, size_in_bytes
from lmcache.errors import InvalidArgumentError


def test_it_measures(run: Any, tmp_path: Path) -> None:
    small = ("--size", "8MB", "--chunk", "1,0.25", "--rounds", "1", "--engine", "threads")
    done = run("bench", "disk", "--path", f"file://{tmp_path}", *small, "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)["figures"]
    assert [line["chunk_bytes"] for line in figures] == [1 << 20, 1 << 18]
    done = run("bench", "disk", "--path", str(tmp_path), *small)
    assert "threads  0.25 MiB" in done.out
    assert "measured by native" in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.multiprocess
def test_restart(run: Any, tmp_path: Path) -> None:
    done = run("bench", "disk", "--path", str(tmp_path), "--restart", "1000")
    assert done.status == 0, done.err
    assert "1,000  1,000       reached" in done.out
    assert re.search(r"attach +[\d.]+ ms +<= 1000 ms +(reached|missed)", done.out)
    done = run("bench", "disk", "--path", str(tmp_path), "--restart", "1000", "--json")
    assert json.loads(done.out)["found"] == 1000


@pytest.mark.multiprocess
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lmcache.cli", "bench", "disk", "--path", str(tmp_path)]
    long = ["--size", "64MB", "--chunk", "1", "--rounds", "100000"]
    process = subprocess.Popen([*command, *long], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*/volume/slab-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--engine", "aio"), "--engine = aio: auto, uring, threads, all are there"),
        (("--raw", "dd"), "--raw = dd: native, fio are there"),
        (("--size", "much"), "--size = much: is no size"),
        (("--chunk", "4,x"), "--chunk = 4,x: must be MiB as plain numbers"),
        (("--size", "100000GB"), "of memory are needed"),
        (("--size", "100TB"), "--size = 100TB: 100000.0 GB of memory are needed"),
        (("--path", __file__), f"--path = {__file__}: is no folder"),
        (("--path", "/nowhere/at/all"), "--path = /nowhere/at/all: there is no such folder"),
        (("--restart", "1000000000"), "are needed for the measurement"),
    ],
)
def test_mistakes(run: Any, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    done = run("bench", "disk", "--path", str(tmp_path), *arguments)
    assert done.status == 2
    assert line in done.err
    assert list(tmp_path.iterdir()) == []


def test_sizes() -> None:
    assert [size_in_bytes(text) for text in ("1000", "2GB", "1.5 kb", "1MiB")] == [
        1000,
        2 * 10**9,
        1500,
        1 << 20,
    ]
    assert chunk_sizes("1,0.25") == (1 << 20, 1 << 18)
    for text in ("-1", "1.2.3", "0", "1PB", ""):
        with pytest.raises(InvalidArgumentError):
            size_in_bytes(text)
    for text in ("0", "-4", "2000", "1,,2"):
        with pytest.raises(InvalidArgumentError):
            chunk_sizes(text)
