# SPDX-License-Identifier: Apache-2.0
"""Merging layers: the first one wins, every mistake is reported, nothing is invented."""

from __future__ import annotations

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.resolve import resolve
from lmcache.config.sources import argument_layer, environment_layer
from lmcache.errors import ConfigError

FIELDS = LMCacheConfig.model_fields


def test_only_what_was_set_is_returned() -> None:
    result = resolve(FIELDS, [argument_layer({"chunk_size": 1, "ttl": None}, "x")])
    assert result.values == {"chunk_size": 1, "ttl": None}
    assert set(result.sources) == {"chunk_size", "ttl"}


def test_the_first_layer_wins() -> None:
    layers = [argument_layer({"chunk_size": 1}, "x"), argument_layer({"chunk_size": 2}, "y")]
    result = resolve(FIELDS, layers)
    assert (result.values["chunk_size"], str(result.sources["chunk_size"])) == (1, "x")


def test_a_wrong_value_is_an_error_even_where_it_would_be_overridden() -> None:
    layers = [
        argument_layer({"chunk_size": 1}, "x"),
        environment_layer({"LMCACHE_CHUNK_SIZE": "x", "LMCACHE_TTL": "y"}),
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(FIELDS, layers)
    assert len(caught.value.problems) == 2


def test_an_implied_value_yields_to_a_layer_above_and_to_its_own() -> None:
    above = argument_layer({"enable_disk_cache": False}, "x")
    below = environment_layer({"LMCACHE_LOCAL_DISK": "/a"})
    assert resolve(FIELDS, [below]).values["enable_disk_cache"] is True
    assert resolve(FIELDS, [above, below]).values["enable_disk_cache"] is False
    assert resolve(FIELDS, [below, above]).values["enable_disk_cache"] is True
