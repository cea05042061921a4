# SPDX-License-Identifier: Apache-2.0
"""A remote is what implements all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_store import FolderStore

from lmcache.remote import Remote, RemoteUse


def test_all_methods_but_two_must_be_there(tmp_path: Path) -> None:
    needed = {"exists", "get_into", "put", "remove", "clear", "describe", "ping"}
    assert Remote.__abstractmethods__ == needed
    with pytest.raises(TypeError):
        Remote()  # type: ignore[abstract]
    Remote.attach(FolderStore(tmp_path), memoryview(b""))
    Remote.close(FolderStore(tmp_path))


def test_what_a_store_does_not_say_is_nothing() -> None:
    assert RemoteUse("a store") == RemoteUse("a store", "", 0, 0, 0)
