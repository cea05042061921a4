# SPDX-License-Identifier: Apache-2.0
"""Both dialects set the same fields, in a dictionary and in the environment."""

from __future__ import annotations

from typing import Any

import pytest

from lmcache.config import LMCacheConfig, load_config
from lmcache.config.aliases import ALIASES, environment_names, names_of
from lmcache.errors import ConfigError

FIELDS = tuple(LMCacheConfig.model_fields)

# A value other than the default for every setting, as text and as the value it becomes.
OTHER: dict[str, tuple[str, Any]] = {
    "chunk_size": ("128", 128),
    "save_unfull_chunk": ("False", False),
    "enable_prefix_cache": ("no", False),
    "retrieval_mode": ("semantic", "semantic"),
    "conversation_mode": ("true", True),
    "min_retrieve_tokens": ("64", 64),
    "ttl": ("3600", 3600),
    "enable_vision_cache": ("1", True),
    "local_cpu": ("0", False),
    "local_cpu_ratio": ("0.5", 0.5),
    "max_local_cpu_size": ("20", 20.0),
    "segment": ("team-a", "team-a"),
    "local_device": ("cuda", "cuda"),
    "max_local_device_size": ("2.5", 2.5),
    "eviction_policy": ("LFU", "lfu"),
    "cache_warmup": ("/prompts.jsonl", "/prompts.jsonl"),
    "async_write": ("off", False),
    "use_layerwise": ("TRUE", True),
    "enable_disk_cache": ("yes", True),
    "disk_cache_path": ("file:///a,/b", ("/a", "/b")),
    "max_local_disk_size": ("1.5e2", 150.0),
    "durability": ("DATA", "data"),
    "write_behind_bytes": ("1000000", 1_000_000),
    "disk_io": ("threads", "threads"),
    "load_policy": ("always", "always"),
    "max_disk_bandwidth": ("500", 500.0),
    "enable_remote_cache": ("false", False),
    "remote_url": ("redis://host:6379", "redis://host:6379"),
    "remote_user": ("reader", "reader"),
    "remote_password": ("sesame", "sesame"),
    "remote_connections": ("8", 8),
    "remote_lookup_timeout_ms": ("50", 50),
    "remote_lookup_kept_ms": ("10", 10),
    "remote_serde": ("naive", "naive"),
    "compression": ("zstd", "zstd"),
    "blocking_timeout_secs": ("3", 3.0),
    "enable_p2p": ("on", True),
    "enable_blending": ("True", True),
    "blend_recompute_ratios": ("0.1, 0.2", (0.1, 0.2)),
    "blend_check_layers": ("1,3-5", (1, 3, 4, 5)),
    "blend_special_str": (" || ", " || "),
    "blend_min_tokens": ("32", 32),
    "lmcache_instance_id": ("node-1", "node-1"),
    "enable_controller": ("true", True),
    "controller_pull_url": ("host:9000", "host:9000"),
    "controller_reply_url": ("host:9001", "host:9001"),
    "lmcache_worker_ports": ("8001-8003,9000", (8001, 8002, 8003, 9000)),
}
NAMES = [(field, name) for field in FIELDS for name in names_of(field)]


def test_the_table_below_is_complete() -> None:
    assert set(OTHER) == set(FIELDS)
    assert set(ALIASES.values()) <= set(FIELDS)


@pytest.mark.parametrize(("field", "name"), NAMES)
def test_environment_variable_of_every_name(field: str, name: str) -> None:
    text, value = OTHER[field]
    variable = "LMCACHE_" + name.upper()
    config = load_config(environ={variable: text})
    assert getattr(config, field) == value
    assert variable in environment_names(field)
    assert str(config.sources[field]) == f"environment variable {variable}"
    assert not config.warnings


@pytest.mark.parametrize("prefix", ["", "lmcache."])
@pytest.mark.parametrize(("field", "name"), NAMES)
def test_dictionary_key_of_every_name(field: str, name: str, prefix: str) -> None:
    value = OTHER[field][1]
    config = load_config({prefix + name: value}, environ={})
    assert getattr(config, field) == value
    assert str(config.sources[field]) == "lmcache_config"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("eviction_policy", "lru"), ("cache_policy", "fifo")),
        (("conversation_mode", True), ("save_decode_cache", False)),
        (("disk_cache_path", "/a"), ("local_disk", "/b")),
        (("chunk_size", 128), ("lmcache.chunk_size", 256)),
        (("compression", "zstd"), ("remote_serde", "cachegen")),
    ],
)
def test_two_names_that_disagree(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    with pytest.raises(ConfigError, match="disagree; keep one") as caught:
        load_config(dict([first, second]), environ={})
    for name, value in (first, second):
        assert f"{name} = " in str(caught.value)
        assert str(value).lower() in str(caught.value)


def test_two_environment_variables_that_disagree_are_both_named() -> None:
    environ = {"LMCACHE_EVICTION_POLICY": "lru", "LMCACHE_CACHE_POLICY": "arc"}
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert all(variable in str(caught.value) for variable in environ)


def test_two_names_that_agree() -> None:
    both = {"eviction_policy": "lru", "cache_policy": "LRU", "local_disk": "file:///a"}
    config = load_config({**both, "disk_cache_path": ["/a"]}, environ={})
    assert (config.eviction_policy, config.disk_cache_path) == ("lru", ("/a",))


@pytest.mark.parametrize(
    ("settings", "disk", "remote"),
    [
        ({"local_disk": "/a"}, True, False),
        ({"disk_cache_path": "/a"}, False, False),
        ({"local_disk": "/a", "enable_disk_cache": False}, False, False),
        ({"enable_disk_cache": True, "local_disk": None}, True, False),
        ({"local_disk": None}, False, False),
        ({"remote_url": "redis://h"}, False, True),
        ({"remote_url": "redis://h", "enable_remote_cache": False}, False, False),
        ({"remote_url": None}, False, False),
    ],
)
def test_naming_the_place_switches_a_tier_on(
    settings: dict[str, Any], disk: bool, remote: bool
) -> None:
    config = load_config(settings, environ={})
    assert (config.enable_disk_cache, config.enable_remote_cache) == (disk, remote)


def test_an_implied_setting_says_so() -> None:
    config = load_config(environ={"LMCACHE_LOCAL_DISK": "/a"})
    told = "implied by local_disk, environment variable LMCACHE_LOCAL_DISK"
    assert str(config.sources["enable_disk_cache"]) == told


def test_cachegen_as_serde_is_a_compression() -> None:
    config = load_config({"remote_serde": "cachegen"}, environ={})
    assert (config.compression, config.remote_serde) == ("cachegen", "msgpack")


def test_settings_of_a_cache_server_are_answered_by_one_line() -> None:
    config = load_config(
        {
            "lmcache.mp.host": "tcp://localhost",
            "lmcache.mp.port": 5555,
            "lmcache.mp.server_urls": ["tcp://a:1", "tcp://b:1"],
            "lmcache.mp.autostart.server_args": "--l1-size-gb 20",
            "lmcache.mp.eager_prefetch": True,
            "lmcache.mp.a_setting_of_tomorrow": 1,
            "lmcache.mp.save_decode_cache": True,
            "chunk_size": 64,
        },
        environ={},
    )
    assert config.chunk_size == 64
    assert config.conversation_mode is True  # this one has a meaning here
    [warning] = config.warnings
    for name in ("host", "port", "server_urls", "autostart.server_args", "a_setting_of_tomorrow"):
        assert f"lmcache.mp.{name}" in warning
    assert "replaces the cache server" in warning
