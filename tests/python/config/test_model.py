# SPDX-License-Identifier: Apache-2.0
"""The model: defaults, values it takes, values it refuses and what it says about them."""

from __future__ import annotations

import pickle
from typing import Any

import pydantic
import pytest

from lmcache.config import LMCacheConfig
from lmcache.errors import ConfigError

# The documented defaults; changing one changes what every deployment without that setting does.
DEFAULTS = {
    "chunk_size": 256,
    "save_unfull_chunk": True,
    "enable_prefix_cache": True,
    "retrieval_mode": "exact",
    "conversation_mode": False,
    "min_retrieve_tokens": 0,
    "ttl": None,
    "enable_vision_cache": False,
    "local_cpu": True,
    "local_cpu_ratio": 0.3,
    "max_local_cpu_size": None,
    "segment": "auto",
    "local_device": "auto",
    "eviction_policy": "lru",
    "cache_warmup": False,
    "async_write": True,
    "use_layerwise": "auto",
    "enable_disk_cache": False,
    "disk_cache_path": ("/tmp/lmcache",),
    "max_local_disk_size": None,
    "enable_remote_cache": False,
    "remote_url": None,
    "remote_serde": "msgpack",
    "compression": "none",
    "blocking_timeout_secs": 10.0,
    "enable_p2p": False,
    "enable_blending": False,
    "blend_recompute_ratios": (0.15,),
    "blend_check_layers": (1,),
    "blend_special_str": " # # ",
    "blend_min_tokens": 256,
    "lmcache_instance_id": None,
    "enable_controller": False,
    "controller_pull_url": None,
    "controller_reply_url": None,
    "lmcache_worker_ports": None,
}


def test_defaults() -> None:
    assert LMCacheConfig().model_dump() == DEFAULTS


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in LMCacheConfig.model_fields.values())


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("chunk_size", 1, 1),
        ("max_local_cpu_size", 20, 20.0),
        ("max_local_cpu_size", 0.5, 0.5),
        ("local_cpu_ratio", 1, 1.0),
        ("ttl", 3600, 3600),
        ("ttl", None, None),
        ("eviction_policy", "LRU", "lru"),
        ("eviction_policy", "S3FIFO", "s3fifo"),
        ("compression", "ZSTD", "zstd"),
        ("compression", "none", "none"),
        ("local_device", "CUDA", "cuda"),
        ("retrieval_mode", "semantic", "semantic"),
        ("use_layerwise", True, True),
        ("use_layerwise", "Auto", "auto"),
        ("cache_warmup", True, True),
        ("cache_warmup", "/prompts.jsonl", "/prompts.jsonl"),
        ("disk_cache_path", "/a", ("/a",)),
        ("disk_cache_path", "file:///a, /b", ("/a", "/b")),
        ("disk_cache_path", ["/a", "file:///b"], ("/a", "/b")),
        ("remote_url", "Redis://host:6379/2", "redis://host:6379/2"),
        ("remote_url", "redis-sentinel://a:1,b:2/main", "redis-sentinel://a:1,b:2/main"),
        ("remote_url", "", None),
        ("blend_recompute_ratios", 0.2, (0.2,)),
        ("blend_check_layers", [1, 2], (1, 2)),
        ("lmcache_worker_ports", [8001, 8002], (8001, 8002)),
        ("chunk_size", None, 256),  # absent falls back
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("chunk_size", 0, "a whole number of tokens from 1"),
        ("chunk_size", -1, "a whole number of tokens from 1"),
        ("chunk_size", 2.5, "a whole number"),
        ("chunk_size", True, "a whole number"),
        ("chunk_size", "many", "a whole number"),
        ("chunk_size", "256", "remove the quotes"),
        ("chunk_size", [256], "a whole number"),
        ("max_local_cpu_size", -5, "gigabytes (10^9 bytes) above 0"),
        ("max_local_cpu_size", 0, "gigabytes"),
        ("max_local_cpu_size", True, "gigabytes"),
        ("max_local_cpu_size", float("inf"), "gigabytes"),
        ("max_local_cpu_size", float("nan"), "gigabytes"),
        ("max_local_cpu_size", "20GB", "gigabytes"),
        ("max_local_disk_size", -0.1, "gigabytes"),
        ("local_cpu_ratio", 0, "above 0 and at most 1"),
        ("local_cpu_ratio", 1.01, "above 0 and at most 1"),
        ("local_cpu_ratio", -0.3, "above 0 and at most 1"),
        ("local_cpu", "maybe", "true or false"),
        ("local_cpu", 1, "true or false"),
        ("enable_disk_cache", "true", "remove the quotes"),
        ("ttl", -1, "seconds above 0"),
        ("ttl", 0, "seconds above 0"),
        ("min_retrieve_tokens", -1, "0 or more"),
        ("blocking_timeout_secs", 0, "seconds above 0"),
        ("eviction_policy", "lur", 'did you mean "lru"?'),
        ("eviction_policy", "random", '"lru", "lfu", "arc", "s3fifo", "fifo", "mru"'),
        ("eviction_policy", 3, '"lru"'),
        ("compression", "gzip", '"zstd"'),
        ("local_device", "tpu", '"auto", "cpu", "cuda"'),
        ("remote_url", "http://host", "redis://"),
        ("remote_url", "redis://", "redis://"),
        ("remote_url", "host:6379", "redis://"),
        ("disk_cache_path", "s3://bucket", "a folder"),
        ("disk_cache_path", "/a,,/b", "a folder"),
        ("disk_cache_path", 7, "a folder"),
        ("use_layerwise", "sometimes", 'true or false or "auto"'),
        ("cache_warmup", 1, "true or false or a path"),
        ("lmcache_worker_ports", [0], "port numbers from 1 to 65535"),
        ("lmcache_worker_ports", [70000], "port numbers"),
        ("blend_recompute_ratios", [0.1, 2], "above 0 and at most 1"),
        ("segment", "a b", "a name of up to 64"),
    ],
)
def test_refused(name: str, written: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LMCacheConfig(**{name: written})
    message = str(caught.value)
    assert message.startswith(f"{name} = ")
    assert str(written).lower() in message.lower()
    assert "(argument)" in message
    assert allowed in message
    assert "\n" not in message


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LMCacheConfig(chunk_size=-1, ttl="x", chunksize=3)
    assert len(caught.value.problems) == 3
    assert "3 mistakes" in str(caught.value)


def test_remote_cache_needs_an_address() -> None:
    with pytest.raises(ConfigError, match="needs remote_url"):
        LMCacheConfig(enable_remote_cache=True)


def test_frozen_hashable_and_equal_by_value() -> None:
    config = LMCacheConfig(chunk_size=128)
    with pytest.raises(pydantic.ValidationError):
        config.chunk_size = 64  # type: ignore[misc]
    assert config == LMCacheConfig(**{"lmcache.chunk_size": 128})
    assert hash(config) == hash(LMCacheConfig(chunk_size=128))
    assert config != LMCacheConfig()


def test_survives_pickle_with_its_sources() -> None:
    config = LMCacheConfig(cache_policy="fifo")
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.sources == config.sources


def test_instance_id_is_never_empty() -> None:
    assert LMCacheConfig(lmcache_instance_id="a").instance_id == "a"
    assert LMCacheConfig().instance_id


@pytest.mark.parametrize("url", ["redis://user:secret@host", "redis://:secret@host:1/0"])
def test_a_password_is_never_shown(url: str) -> None:
    assert "secret" not in repr(LMCacheConfig(remote_url=url))
    with pytest.raises(ConfigError) as caught:
        LMCacheConfig(remote_url=url.replace("redis", "rediss3"))
    assert "secret" not in str(caught.value)
    assert "host" in str(caught.value)
