# SPDX-License-Identifier: Apache-2.0
"""Which folders a command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from disk_cache import make_cache, open_volume

from lmcache.cli.disk.folders import chosen_folders, open_existing, written
from lmcache.errors import InvalidArgumentError, LMCacheError, UnavailableError


def test_as_the_setting_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert chosen_folders("file:///a, b") == ["/a", f"{tmp_path}/b"]
    assert written(["/a", "/b"]) == "/a,/b"
    for wrong in ("", "a,,b", "s3://x"):
        with pytest.raises(InvalidArgumentError, match="is no folder, nor several"):
            chosen_folders(wrong)


@pytest.mark.usefixtures("run")
def test_the_configured_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="no disk cache is configured"):
        chosen_folders(None)
    monkeypatch.setenv("LMCACHE_LOCAL_DISK", "file:///a/,/b")
    assert chosen_folders(None) == ["/a", "/b"]


def test_nothing_is_named_as_nothing() -> None:
    with pytest.raises(InvalidArgumentError, match='PATH = "": is no folder'):
        chosen_folders("")


def test_what_clear_would_take_is_said(tmp_path: Path) -> None:
    make_cache(tmp_path, 1)
    (tmp_path / "volume").write_bytes(b"of another version" * 300)
    with pytest.raises(LMCacheError, match=f"`lmcache disk clear {tmp_path}` removes what is left"):
        open_existing([str(tmp_path)])


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    def refusal(*folders: Any) -> str:
        with pytest.raises(LMCacheError) as raised:
            open_existing([str(folder) for folder in folders])
        return str(raised.value)

    missing = tmp_path / "missing"
    assert refusal(missing) == f"disk cache: there is no disk cache in {missing}"
    assert not missing.exists()
    assert "there is no disk cache in" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal(tmp_path / "file")
    volume = open_volume(tmp_path / "a", tmp_path / "b")
    assert open_existing([f"{tmp_path}/a", f"{tmp_path}/b"]).status()["processes"] == 2
    del volume
    assert "the disk cache has 2 folders, 1 were given" in refusal(tmp_path / "a")


def test_another_node(tmp_path: Path) -> None:
    """A process with a shared memory of its own stands for another machine."""
    from lmcache import _native

    make_cache(tmp_path / "cache", 1)
    (tmp_path / "shm").mkdir()
    other = _native.DiskVolume.open(
        [f"{tmp_path}/cache"], lambda *_: None, memory_folder=f"{tmp_path}/shm"
    )
    with pytest.raises(UnavailableError, match="is used by another node"):
        open_existing([f"{tmp_path}/cache"])
    del other
    assert open_existing([f"{tmp_path}/cache"]).status()["chunks"] == 1
