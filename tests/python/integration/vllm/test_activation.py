# SPDX-License-Identifier: Apache-2.0
"""Who switches the cache on, and what vLLM is told then."""

from __future__ import annotations

import pytest

from lmcache.config import LMCacheConfig
from lmcache.errors import ConfigError
from lmcache.integration.vllm.activation import connector_settings, is_wanted


@pytest.mark.parametrize(
    ("explicit", "config", "environ", "wanted"),
    [
        (None, None, {}, False),
        (True, None, {}, True),
        (False, {"chunk_size": 64}, {"VLLM_ENABLE_LMCACHE": "1"}, False),
        (None, {}, {}, True),
        (None, None, {"VLLM_ENABLE_LMCACHE": "True"}, True),
        (None, None, {"ENABLE_LMCACHE": "on"}, True),
        (None, None, {"ENABLE_LMCACHE": "0"}, False),
        (None, None, {"ENABLE_LMCACHE": " "}, False),
        (None, None, {"ENABLE_LMCACHE": "yes", "VLLM_ENABLE_LMCACHE": "1"}, True),
    ],
)
def test_switches(explicit, config, environ, wanted):
    assert is_wanted(explicit, config, environ) is wanted


def test_neither_yes_nor_no_is_an_error():
    with pytest.raises(ConfigError, match=r"VLLM_ENABLE_LMCACHE=.maybe.*allowed: 1, true"):
        is_wanted(None, None, {"VLLM_ENABLE_LMCACHE": "maybe"})


def test_variables_that_disagree_are_an_error():
    environ = {"VLLM_ENABLE_LMCACHE": "1", "ENABLE_LMCACHE": "0"}
    with pytest.raises(ConfigError, match="VLLM_ENABLE_LMCACHE and ENABLE_LMCACHE"):
        is_wanted(None, None, environ)


def test_settings_become_the_dictionary_of_the_connector():
    settings = connector_settings({"chunk_size": 64, "lmcache.segment": "mine"})
    assert settings["kv_connector"] == "LMCacheConnector"
    assert settings["kv_role"] == "kv_both"
    assert settings["kv_load_failure_policy"] == "recompute"
    extra = settings["kv_connector_extra_config"]
    assert extra == {"lmcache.chunk_size": 64, "lmcache.segment": "mine"}


def test_json_and_finished_configurations_are_taken():
    extra = connector_settings('{"chunk_size": 64}')["kv_connector_extra_config"]
    assert extra == {"lmcache.chunk_size": 64}
    extra = connector_settings(LMCacheConfig(chunk_size=64))["kv_connector_extra_config"]
    assert extra == {"lmcache.chunk_size": 64}
    assert connector_settings(None)["kv_connector_extra_config"] == {}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"chunk_sice": 64}, "chunk_size"),
        ({"chunk_size": -1}, "chunk_size"),
        ("{", "not valid JSON"),
        (7, "not a dictionary"),
    ],
)
def test_mistakes_are_told_at_once(config, says):
    with pytest.raises(ConfigError, match=says):
        connector_settings(config)
