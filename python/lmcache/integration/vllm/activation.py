# SPDX-License-Identifier: Apache-2.0
"""Whether the user switched LMCache on, and the connector configuration that follows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from lmcache.config import LMCacheConfig, load_config
from lmcache.errors import ConfigError

VARIABLES = ("VLLM_ENABLE_LMCACHE", "ENABLE_LMCACHE")
_WORDS = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def is_wanted(explicit: bool | None, config: Any, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether to cache: the argument decides, then the environment.

    Settings without a switch mean yes: whoever writes them down wants them used. Raises ConfigError
    when a variable holds neither yes nor no, or when two say different things.
    """
    if explicit is not None:
        return bool(explicit)
    if config is not None:
        return True
    said = {name: _read(name, environ[name]) for name in VARIABLES if environ.get(name, "").strip()}
    if len(set(said.values())) > 1:
        raise ConfigError(f"{' and '.join(said)} say different things")
    return any(said.values())


def _read(name: str, text: str) -> bool:
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise ConfigError(
            f"{name}={text!r} (environment) is neither yes nor no; allowed: {', '.join(_WORDS)}"
        ) from None


def connector_settings(config: Any) -> dict[str, Any]:
    """Return the arguments of vLLM's `KVTransferConfig` for our connector.

    `config` is a dictionary, a finished configuration, JSON text, or None. It is checked here, in
    the process of the user, so that a mistake is not buried in the log of another one. Raises
    ConfigError.
    """
    settings = _as_dictionary(config)
    load_config(settings, log_warnings=False)
    return {
        "kv_connector": "LMCacheConnector",
        "kv_connector_module_path": "lmcache.integration.vllm.connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {_prefixed(name): value for name, value in settings.items()},
    }


def _prefixed(name: str) -> str:
    return name if name.startswith("lmcache.") else f"lmcache.{name}"


def _as_dictionary(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(
        config, LMCacheConfig
    ):  # what was set; the rest still comes from environment and file
        return {
            name: getattr(config, name)
            for name, source in config.sources.items()
            if source.kind == "argument"
        }
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError as error:
            raise ConfigError(f"lmcache_config is not valid JSON: {error}") from error
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"lmcache_config is a {type(config).__name__}, not a dictionary of settings"
        )
    return dict(config)
