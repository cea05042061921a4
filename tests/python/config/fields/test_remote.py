# SPDX-License-Identifier: Apache-2.0
"""Settings of remote stores and compression: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.remote import RemoteOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("compression", "ZSTD", "zstd"),
        ("compression", "none", "none"),
        ("remote_url", "Redis://host:6379/2", "redis://host:6379/2"),
        ("remote_url", "redis-sentinel://a:1,b:2/main", "redis-sentinel://a:1,b:2/main"),
        ("remote_url", "", None),
        ("blocking_timeout_secs", 3, 3.0),
        ("remote_serde", "NAIVE", "naive"),
        ("remote_user", "reader", "reader"),
        ("remote_password", "sesame", "sesame"),
        ("remote_connections", 1, 1),
        ("remote_lookup_timeout_ms", 60_000, 60_000),
        ("remote_lookup_kept_ms", 10, 10),
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in RemoteOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("blocking_timeout_secs", 0, "seconds above 0"),
        ("compression", "gzip", '"zstd"'),
        ("remote_url", "http://host", "redis://"),
        ("remote_url", "redis://", "redis://"),
        ("remote_url", "host:6379", "redis://"),
        ("remote_serde", "pickle", '"msgpack", "naive"'),
        ("remote_connections", 0, "a whole number from 1 to 64"),
        ("remote_connections", 65, "a whole number from 1 to 64"),
        ("remote_lookup_timeout_ms", 0, "milliseconds from 1 to 60000"),
        ("remote_lookup_timeout_ms", 0.5, "milliseconds from 1 to 60000"),
        ("remote_lookup_kept_ms", 0, "milliseconds from 10 to 3600000"),
        ("enable_p2p", "x", "true or false"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in RemoteOptions.model_fields
    assert allowed in refusal(name, written)
