# SPDX-License-Identifier: Apache-2.0
"""Settings of the disk tier: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.disk import DiskOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("disk_cache_path", "/a", ("/a",)),
        ("disk_cache_path", "file:///a, /b", ("/a", "/b")),
        ("disk_cache_path", ["/a", "file:///b"], ("/a", "/b")),
        ("max_local_disk_size", 100, 100.0),
        ("durability", "Data", "data"),
        ("write_behind_bytes", 0, 0),
        ("disk_io", "IO_URING", "io_uring"),
        ("load_policy", "always", "always"),
        ("max_disk_bandwidth", 0.5, 0.5),
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in DiskOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("max_local_disk_size", -0.1, "gigabytes"),
        ("enable_disk_cache", "true", "remove the quotes"),
        ("disk_cache_path", "s3://bucket", "a folder"),
        ("disk_cache_path", "/a,,/b", "a folder"),
        ("disk_cache_path", 7, "a folder"),
        ("durability", "always", "none"),
        ("write_behind_bytes", -1, "whole number of bytes"),
        ("disk_io", "aio", "io_uring"),
        ("load_policy", "never", "auto"),
        ("max_disk_bandwidth", 0, "megabytes"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in DiskOptions.model_fields
    assert allowed in refusal(name, written)
