# SPDX-License-Identifier: Apache-2.0
"""What this version cannot do is told, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from lmcache.config import LMCacheConfig, eviction_in_use, unavailable_line
from lmcache.config.availability import has_remote
from lmcache.config.value_types import REMOTE_SCHEMES

WITH_CLIENT = {
    *("redis", "rediss", "valkey", "valkeys", "unix"),
    *("redis-cluster", "rediss-cluster", "redis-sentinel"),
    *("file", "s3", "az", "gs", "mooncakestore"),
}


def test_defaults_ask_for_nothing_missing() -> None:
    assert LMCacheConfig().unavailable() == []
    assert unavailable_line(LMCacheConfig()) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retrieval_mode", "semantic"),
        ("enable_blending", True),
        ("compression", "zstd"),
        ("enable_p2p", True),
        ("enable_controller", True),
        ("enable_vision_cache", True),
        ("cache_warmup", "/prompts"),
        ("eviction_policy", "lfu"),
        ("eviction_policy", "arc"),
        ("eviction_policy", "s3fifo"),
    ],
)
def test_asking_for_something_missing(name: str, value: Any) -> None:
    config = LMCacheConfig(**{name: value})
    [(field, why)] = config.unavailable()
    assert config.sources[field].kind == "argument"
    assert "not in this version" in why


def test_a_pool_in_gpu_memory_needs_a_size() -> None:
    [(field, why)] = LMCacheConfig(local_device="cuda").unavailable()
    assert field == "local_device"
    assert why.startswith("no pool in GPU memory without max_local_device_size")
    assert LMCacheConfig(local_device="cuda", max_local_device_size=8).unavailable() == []
    assert LMCacheConfig(local_device="cpu", max_local_device_size=8).unavailable() == []


def test_without_memory_there_must_be_a_tier_below() -> None:
    [(field, why)] = LMCacheConfig(local_cpu=False).unavailable()
    assert (field, why) == ("local_cpu", "there is no tier below; nothing is kept")
    assert LMCacheConfig(local_cpu=False, local_disk="/a").unavailable() == []
    assert LMCacheConfig(local_cpu=False, remote_url="redis://a").unavailable() == []
    missing = LMCacheConfig(local_cpu=False, remote_url="lm://a").unavailable()
    assert [name for name, _ in missing] == ["local_cpu", "remote_url"]


@pytest.mark.parametrize("scheme", sorted(WITH_CLIENT))
def test_remote_stores_with_a_client(scheme: str) -> None:
    config = LMCacheConfig(remote_url=f"{scheme}://host")
    assert has_remote(config.remote_url or "")
    assert unavailable_line(config) == ""


@pytest.mark.parametrize("scheme", sorted(set(REMOTE_SCHEMES) - WITH_CLIENT))
def test_remote_stores_without_one(scheme: str) -> None:
    config = LMCacheConfig(remote_url=f"{scheme}://me:secret@host/x")
    assert not has_remote(config.remote_url or "")
    line = unavailable_line(config)
    assert f"remote_url={scheme}://me:***@host/x: this kind of remote store is not in" in line
    assert "chunks stay on this node" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("policy", "used"),
    [("lru", "lru"), ("fifo", "fifo"), ("mru", "mru"), ("lfu", "lru"), ("s3fifo", "lru")],
)
def test_the_policy_in_use_differs_only_where_a_line_says_so(policy: str, used: str) -> None:
    config = LMCacheConfig(eviction_policy=policy)
    assert eviction_in_use(config.eviction_policy) == used
    assert bool(config.unavailable()) == (used != policy)


def test_one_line_names_all_of_it() -> None:
    line = unavailable_line(LMCacheConfig(eviction_policy="arc", enable_p2p=True))
    assert "\n" not in line
    assert "eviction_policy=arc: " in line
    assert "evicted by lru" in line
    assert "enable_p2p=true: " in line
