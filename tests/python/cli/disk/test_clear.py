# SPDX-License-Identifier: Apache-2.0
"""`lmcache disk clear` forgets a disk cache and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from disk_cache import keys_of, make_cache, open_volume, write_chunks


def test_one_that_nobody_uses_goes(run: Any, tmp_path: Path) -> None:
    make_cache(tmp_path, 10)
    (tmp_path / "notes").write_text("mine")
    done = run("disk", "clear", str(tmp_path), "--yes")
    assert done.status == 0, done.err
    assert f"removed the files in {tmp_path}" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    done = run("disk", "clear", str(tmp_path), "-y")
    assert (done.status, done.out[:16]) == (0, "nothing to clear")
    done = run("disk", "clear", str(tmp_path / "notes"), "--yes")
    assert (done.status, done.err) == (2, f"error: {tmp_path}/notes is no folder\n")


def test_one_in_use_is_emptied(run: Any, tmp_path: Path) -> None:
    volume = open_volume(tmp_path)
    write_chunks(volume, 10)
    done = run("disk", "clear", str(tmp_path), "--yes")
    assert done.status == 0, done.err
    assert "forgot 10 chunks" in done.out
    assert volume.find(keys_of(10)) == 0
    write_chunks(volume, 10, seed=1)
    assert volume.find(keys_of(10, seed=1)) == 10


def test_it_asks_first(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = open_volume(tmp_path)
    write_chunks(volume, 10)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = run("disk", "clear", str(tmp_path))
    assert (done.status, "say --yes" in done.err) == (2, True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, left in (("n\n", 10), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        done = run("disk", "clear", str(tmp_path))
        assert "Forget 10 chunks (2.0 MB)" in done.out
        assert "used by 1 process(es)?" in done.out
        assert volume.find(keys_of(10)) == left


def test_one_folder_of_two_and_one_that_is_damaged(run: Any, tmp_path: Path) -> None:
    volume = open_volume(tmp_path / "a", tmp_path / "b")
    del volume
    assert run("disk", "clear", str(tmp_path / "a"), "--yes").status == 0
    assert list((tmp_path / "a").iterdir()) == []
    assert (tmp_path / "b/volume").exists()
    (tmp_path / "b/volume").write_bytes(b"of another version" * 300)
    assert run("disk", "clear", f"{tmp_path}/a,{tmp_path}/b", "--yes").status == 0
    assert list((tmp_path / "b").iterdir()) == []
