# SPDX-License-Identifier: Apache-2.0
"""Which client an address needs, and what is said when it is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lmcache.errors import InvalidArgumentError, UnavailableError
from lmcache.remote.opening import is_python_remote, open_remote

LOGIN: dict[str, Any] = {"user": None, "password": None, "timeout_s": 5.0, "connections": 2}


@pytest.mark.parametrize("scheme", ["file", "s3", "az", "gs", "mooncakestore", "S3"])
def test_clients_in_python(scheme: str) -> None:
    assert is_python_remote(f"{scheme}://x")


@pytest.mark.parametrize("url", ["redis://x", "lm://x", "http://file://x"])
def test_others(url: str) -> None:
    assert not is_python_remote(url)
    with pytest.raises(InvalidArgumentError):
        open_remote(url, **LOGIN)


def test_a_folder_needs_no_library(tmp_path: Path) -> None:
    remote = open_remote(f"FILE://{tmp_path}", **LOGIN)
    remote.ping()
    assert remote.describe().chunks == 0
    remote.close()


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "lmcache.remote.object_store", raising=False)
    with pytest.raises(UnavailableError) as caught:
        open_remote(f"{scheme}://me:sesame@bucket", **LOGIN)
    assert f"{scheme}://" in str(caught.value)
    assert 'pip install "lmcache[object-store]"' in str(caught.value)
    assert "sesame" not in str(caught.value)
