# SPDX-License-Identifier: Apache-2.0
"""The second name of a setting, and what one setting says about another.

Two dialects are in use: the documented `lmcache_config` dictionary and the names of existing
LMCache deployments. Most names are the same in both; the others stand here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

# Name in existing deployments -> our field.
ALIASES = {
    "cache_policy": "eviction_policy",
    "local_disk": "disk_cache_path",
    "save_decode_cache": "conversation_mode",
}

# In a dictionary that is shared with other programs (vLLM's kv_connector_extra_config), keys may
# carry this.
PREFIX = "lmcache."

ENVIRONMENT_PREFIX = "LMCACHE_"

# `LMCACHE_*` variables that are no settings: they are read elsewhere, or belong to a build or to a
# test.
NOT_SETTINGS = frozenset(
    {
        "LMCACHE_CONFIG_FILE",  # names the YAML file
        "LMCACHE_DISABLE_BANNER",
        "LMCACHE_PYTHON",
        "LMCACHE_USE_EXPERIMENTAL",  # existing deployments set it; it has nothing to choose here
        "LMCACHE_USE_UPSTREAM_MP",  # read by vLLM
        "LMCACHE_VENV",
    }
)
NOT_SETTINGS_PREFIXES = ("LMCACHE_CUDA", "LMCACHE_TEST_", "LMCACHE_DEMO_", "LMCACHE_BENCH_")

# Settings of existing deployments that have no meaning here -> why. They never stop a start.
_SERVER = "the segment of the node replaces the cache server"
OBSOLETE = {
    "lmcache_rpc_port": "the scheduler reads the index directly, without a port",
    "discard_partial_chunks": 'set "save_unfull_chunk" instead',
}
# All that is left of these: addresses, timeouts and ways to start a cache server.
_OF_SERVER = "mp."


def field_of(name: str, fields: Collection[str]) -> str | None:
    """Return the field that `name`, with or without prefix, means in either dialect."""
    bare = name.removeprefix(PREFIX)
    field = ALIASES.get(bare, bare)
    return field if field in fields else None


def why_obsolete(name: str) -> str | None:
    """Return why a setting of existing deployments has no meaning here, None for any other name."""
    bare = name.removeprefix(PREFIX)
    return _SERVER if bare.startswith(_OF_SERVER) else OBSOLETE.get(bare)


def names_of(field: str) -> tuple[str, ...]:
    """Return every name of `field`, our own first."""
    return (field, *(alias for alias, target in ALIASES.items() if target == field))


def environment_names(field: str) -> tuple[str, ...]:
    """Return the environment variables that set `field`, our own name first."""
    return tuple(ENVIRONMENT_PREFIX + name.upper() for name in names_of(field))


def implied_by(name: str, value: Any) -> dict[str, Any]:
    """Return what existing deployments mean besides `name = value`, as raw values of other fields.

    They switch a tier on by saying where it is, and off by leaving the place empty.
    """
    bare = name.removeprefix(PREFIX)
    if bare == "local_disk":
        return {"enable_disk_cache": value is not None}
    if bare == "remote_url":
        return {"enable_remote_cache": value is not None}
    return {}


def translated(name: str, value: Any) -> tuple[str, Any]:
    """Return the name and value to use for one that existing deployments put into another setting.

    Their `remote_serde: cachegen` is a compression here; a framing is something else.
    """
    if name.removeprefix(PREFIX) == "remote_serde" and str(value).strip().lower() == "cachegen":
        return "compression", "cachegen"
    if name.removeprefix(PREFIX) == "mp.save_decode_cache":  # the one that is not for the server
        return "conversation_mode", value
    return name, value
