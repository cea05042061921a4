# SPDX-License-Identifier: Apache-2.0
"""Settings towards routers and controllers: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.control import ControlOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("lmcache_worker_ports", [8001, 8002], (8001, 8002)),
        ("lmcache_instance_id", "node-1", "node-1"),
        ("controller_pull_url", "host:9000", "host:9000"),
        ("lmcache_instance_id", "", None),  # absent
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in ControlOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("lmcache_worker_ports", [0], "port numbers from 1 to 65535"),
        ("lmcache_worker_ports", [70000], "port numbers"),
        ("lmcache_instance_id", 7, "a name"),
        ("controller_pull_url", 9000, "host:port or URL"),
        ("lmcache_worker_ports", "8001", "port numbers"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in ControlOptions.model_fields
    assert allowed in refusal(name, written)
