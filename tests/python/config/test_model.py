# SPDX-License-Identifier: Apache-2.0
"""The model: defaults, values it takes, values it refuses and what it says about them."""

from __future__ import annotations

import pickle

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
    "max_local_device_size": None,
    "eviction_policy": "lru",
    "cache_warmup": False,
    "async_write": True,
    "use_layerwise": "auto",
    "enable_disk_cache": False,
    "disk_cache_path": ("/tmp/lmcache",),
    "max_local_disk_size": None,
    "durability": "none",
    "write_behind_bytes": 256 << 20,
    "disk_io": "auto",
    "load_policy": "auto",
    "max_disk_bandwidth": None,
    "enable_remote_cache": False,
    "remote_url": None,
    "remote_user": None,
    "remote_password": None,
    "remote_connections": 4,
    "remote_lookup_timeout_ms": 200,
    "remote_lookup_kept_ms": 5000,
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
    assert "secret" not in repr(LMCacheConfig(remote_password="secret"))
    with pytest.raises(ConfigError) as caught:
        LMCacheConfig(remote_password=["secret"])
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        LMCacheConfig(remote_url=url.replace("redis", "rediss3"))
    assert "secret" not in str(caught.value)
    assert "host" in str(caught.value)
