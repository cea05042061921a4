# SPDX-License-Identifier: Apache-2.0
"""Precedence, provenance, warnings, and errors that name their source."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lmcache.config import LMCacheConfig, load_config
from lmcache.errors import ConfigError


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "lmcache.yaml"
    path.write_text("chunk_size: 32\nttl: 60\nlocal_cpu_ratio: 0.1\n")
    return path


def test_precedence_and_provenance(yaml_file: Path) -> None:
    environ = {
        "LMCACHE_CONFIG_FILE": str(yaml_file),
        "LMCACHE_CHUNK_SIZE": "64",
        "LMCACHE_TTL": "120",
    }
    config = load_config({"chunk_size": 128}, environ=environ)
    assert (config.chunk_size, config.ttl, config.local_cpu_ratio) == (128, 120, 0.1)
    assert str(config.sources["chunk_size"]) == "lmcache_config"
    assert str(config.sources["ttl"]) == "environment variable LMCACHE_TTL"
    assert str(config.sources["local_cpu_ratio"]) == f"{yaml_file}:3"
    assert str(config.sources["segment"]) == "default"
    assert set(config.sources) == set(LMCacheConfig.model_fields)


def test_an_alias_overrides_across_sources() -> None:
    config = load_config({"eviction_policy": "lru"}, environ={"LMCACHE_CACHE_POLICY": "arc"})
    assert config.eviction_policy == "lru"


def test_none_overrides_a_lower_source(yaml_file: Path) -> None:
    yaml_file.write_text("ttl: 60\nremote_url: redis://host\nlocal_disk: /a\n")
    environ = {"LMCACHE_TTL": "none", "LMCACHE_LOCAL_DISK": "null"}
    config = load_config({"remote_url": None}, environ=environ, file=yaml_file)
    assert config.ttl is None
    assert config.remote_url is None
    assert not config.enable_remote_cache
    assert not config.enable_disk_cache


def test_the_file_argument_replaces_the_variable(yaml_file: Path) -> None:
    config = load_config(environ={"LMCACHE_CONFIG_FILE": "/no/such"}, file=yaml_file)
    assert config.chunk_size == 32


def test_a_finished_configuration_is_taken_as_it_is() -> None:
    config = LMCacheConfig(chunk_size=7)
    assert load_config(config, environ={"LMCACHE_CHUNK_SIZE": "9"}) is config


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCACHE_CHUNK_SIZE", "48")
    assert load_config().chunk_size == 48
    assert LMCacheConfig().chunk_size == 256  # the model itself never looks there


@pytest.mark.parametrize("text", ["big", "-1", "0", "1.5", "true", "256 tokens"])
def test_a_wrong_variable_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"LMCACHE_CHUNK_SIZE": text})
    assert f'chunk_size = "{text}" (environment variable LMCACHE_CHUNK_SIZE)' in str(caught.value)
    assert "a whole number of tokens" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LMCACHE_LMCACHE_WORKER_PORTS", "80,x"),
        ("LMCACHE_LMCACHE_WORKER_PORTS", "9-8"),
        ("LMCACHE_LMCACHE_WORKER_PORTS", "1-999999"),
        ("LMCACHE_LOCAL_CPU", "perhaps"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "nan"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "-20"),
        ("LMCACHE_BLEND_RECOMPUTE_RATIOS", "0.1;0.2"),
    ],
)
def test_wrong_text(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load_config(environ={variable: text})


def test_a_wrong_value_in_a_file_names_the_line(yaml_file: Path) -> None:
    yaml_file.write_text("local_cpu: true\nmax_local_cpu_size: -20\n")
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"LMCACHE_CONFIG_FILE": str(yaml_file)})
    assert f"max_local_cpu_size = -20 ({yaml_file}:2)" in str(caught.value)


def test_a_key_twice_in_a_file(yaml_file: Path) -> None:
    yaml_file.write_text("chunk_size: 1\nttl: 2\nchunk_size: 3\n")
    with pytest.raises(ConfigError, match="disagree") as caught:
        load_config(environ={}, file=yaml_file)
    assert f"{yaml_file}:1" in str(caught.value)
    assert f"{yaml_file}:3" in str(caught.value)


def test_unknown_names_warn_in_a_file_and_the_environment(
    yaml_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    yaml_file.write_text("chunk_sise: 1\nnixl_buffer_device: cuda\n")
    with caplog.at_level(logging.WARNING, logger="lmcache"):
        config = load_config(environ={"LMCACHE_CHUNKSIZE": "1"}, file=yaml_file)
    assert config == LMCacheConfig()
    told = "environment variable LMCACHE_CHUNKSIZE is not a setting and is ignored"
    assert config.warnings == (
        f'{told}; did you mean "LMCACHE_CHUNK_SIZE"?',
        f'"chunk_sise" ({yaml_file}:1) is not a setting and is ignored; did you mean "chunk_size"?',
        f'"nixl_buffer_device" ({yaml_file}:2) is not a setting and is ignored',
    )
    assert tuple(record.getMessage() for record in caplog.records) == config.warnings


def test_warnings_can_be_kept_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(environ={"LMCACHE_NOTHING": "1"}, log_warnings=False)
    assert len(config.warnings) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chunksize", 'did you mean "chunk_size"?'),
        ("CHUNK-SIZE", 'did you mean "chunk_size"?'),
        ("lmcache.chunk_sizes", 'did you mean "chunk_size"?'),
        ("cache_polcy", 'did you mean "cache_policy"?'),
        ("xyzzy", "lists them all"),
    ],
)
def test_an_unknown_name_in_a_dictionary_is_an_error(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({name: 1}, argument_name="kv_connector_extra_config", environ={})
    assert f'"{name}" (kv_connector_extra_config) is not a setting' in str(caught.value)
    assert hint in str(caught.value)
