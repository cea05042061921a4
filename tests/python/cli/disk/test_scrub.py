# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk scrub` finds damage, forgets it, and can be stopped."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from disk_cache import damage_slabs, keys_of, make_cache, open_volume, write_chunks

DOCUMENT = Path(__file__).parents[4] / "docs" / "cli.md"


def test_nothing_wrong(run: Any, tmp_path: Path) -> None:
    make_cache(tmp_path, 10)
    done = run("disk", "scrub", str(tmp_path))
    assert done.status == 0, done.err
    assert f"{tmp_path}: all right, 10 chunks, 2.0 MB" in done.out
    assert done.err == ""


def test_damage_is_found_and_forgotten(run: Any, tmp_path: Path) -> None:
    keys = make_cache(tmp_path, 10)
    slabs = len(list(tmp_path.glob("slab-*")))
    damage_slabs(tmp_path, 100_000)
    done = run("disk", "scrub", str(tmp_path), "--json")
    assert done.status == 1
    report = json.loads(done.out)
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert set(report) - documented == set()
    assert report["complete"]
    assert (report["chunks"], report["total_chunks"], report["corrupt"]) == (10, 10, slabs)
    volume = open_volume(tmp_path)
    assert volume.find(keys) == 10 - slabs
    del volume
    done = run("disk", "scrub", str(tmp_path))
    assert (done.status, f"{10 - slabs} chunks" in done.out) == (0, True)


def test_damage_is_told(run: Any, tmp_path: Path) -> None:
    make_cache(tmp_path, 10)
    damage_slabs(tmp_path, 100_000)
    with (tmp_path / "index").open("r+b") as index:
        index.seek(128 * 2 + 8)
        index.write(b"x")
    done = run("disk", "scrub", str(tmp_path))
    assert done.status == 1
    assert "chunks were not what was written: they are forgotten" in done.out
    assert f"  {tmp_path}/slab-0, byte 0: corrupt\n" in done.out
    assert "1 record of the index was damaged: its chunk is forgotten" in done.out
    # Told of once: nothing is left of it.
    done = run("disk", "scrub", str(tmp_path))
    assert (done.status, "all right" in done.out) == (0, True)


def test_a_damaged_record_beside_one_who_uses_the_cache(run: Any, tmp_path: Path) -> None:
    make_cache(tmp_path, 10)
    with (tmp_path / "index").open("r+b") as index:
        index.seek(128 * 2 + 8)
        index.write(b"x")
    volume = open_volume(tmp_path)
    assert run("disk", "scrub", str(tmp_path)).status == 1
    assert run("disk", "scrub", str(tmp_path)).status == 0
    told = run("disk", "stat", str(tmp_path)).out
    assert "scrub" not in told
    write_chunks(volume, 10, seed=1)
    del volume
    assert run("disk", "scrub", str(tmp_path)).status == 0


def test_beside_one_who_writes(run: Any, tmp_path: Path) -> None:
    volume = open_volume(tmp_path)
    write_chunks(volume, 10)
    done = run("disk", "scrub", str(tmp_path))
    assert (done.status, "10 chunks" in done.out) == (0, True)
    write_chunks(volume, 10, seed=1)
    assert volume.find(keys_of(10) + keys_of(10, seed=1)) == 20


def test_ctrl_c_by_question(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal arrives before the first batch is read: that batch is all that is checked."""
    volume = open_volume(tmp_path, limit_bytes=400 << 20)
    for seed in range(4):
        write_chunks(volume, 100, seed)
    del volume
    # By its name: the package exports the function.
    command: Any = importlib.import_module("lmcache.cli.disk.scrub")
    real = command._Interruption.__enter__

    def interrupted(stop: Any) -> Any:
        entered = real(stop)
        os.kill(os.getpid(), signal.SIGINT)
        return entered

    monkeypatch.setattr(command._Interruption, "__enter__", interrupted)
    done = run("disk", "scrub", str(tmp_path), "--json")
    assert done.status == 130
    report = json.loads(done.out)
    assert not report["complete"]
    assert 0 < report["chunks"] < report["total_chunks"] == 400
    assert "stopped after" in run("disk", "scrub", str(tmp_path)).out
    assert not any(report[name] for name in ("corrupt", "unreadable", "damaged_records"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.multiprocess
def test_ctrl_c_at_a_terminal(tmp_path: Path) -> None:
    volume = open_volume(tmp_path, limit_bytes=1 << 30)
    for seed in range(8):
        write_chunks(volume, 250, seed)
    del volume
    inner, outer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lmcache.cli", "disk", "scrub", str(tmp_path)],
        stdout=outer,
        stderr=outer,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(outer)
    shown = b""
    asked = False
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            shown += os.read(inner, 65536)
        except OSError:  # the other end is closed
            break
        if b"checking" in shown and not asked:
            asked = True
            process.send_signal(signal.SIGINT)
    os.close(inner)
    assert process.wait(20) == 130, shown
    assert b"stopped" in shown
    assert b"B/s" in shown
    assert b"Traceback" not in shown
