# SPDX-License-Identifier: Apache-2.0
"""What this version cannot do is told, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from lmcache.config import LMCacheConfig, eviction_in_use, unavailable_line


def test_defaults_ask_for_nothing_missing() -> None:
    assert LMCacheConfig().unavailable() == []
    assert unavailable_line(LMCacheConfig()) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("remote_url", "redis://host"),
        ("retrieval_mode", "semantic"),
        ("enable_blending", True),
        ("compression", "zstd"),
        ("enable_p2p", True),
        ("enable_controller", True),
        ("enable_vision_cache", True),
        ("cache_warmup", "/prompts"),
        ("local_device", "cuda"),
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


def test_without_memory_there_must_be_a_tier_below() -> None:
    [(field, why)] = LMCacheConfig(local_cpu=False).unavailable()
    assert (field, why) == ("local_cpu", "there is no tier below; nothing is kept")
    assert LMCacheConfig(local_cpu=False, local_disk="/a").unavailable() == []


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
