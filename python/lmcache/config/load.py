# SPDX-License-Identifier: Apache-2.0
"""Loading the configuration: argument, then environment, then file, then default."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from lmcache.config.model import LMCacheConfig
from lmcache.config.resolve import resolve
from lmcache.config.sources import Layer, argument_layer, environment_layer, file_layer

CONFIG_FILE_VARIABLE = "LMCACHE_CONFIG_FILE"

_log = logging.getLogger("lmcache")


def load_config(
    arguments: Mapping[str, Any] | LMCacheConfig | None = None,
    *,
    argument_name: str = "lmcache_config",
    environ: Mapping[str, str] | None = None,
    file: str | os.PathLike[str] | None = None,
    log_warnings: bool = True,
) -> LMCacheConfig:
    """Return the configuration that results from all sources.

    `arguments` is a dictionary in either dialect, called `argument_name` in messages; a finished
    configuration is returned as it is. `environ` defaults to this process's. `file` takes the place
    of the file named by LMCACHE_CONFIG_FILE. Warnings go to the logger "lmcache" and stay in
    `config.warnings`. Raises `lmcache.errors.ConfigError` that lists every mistake.
    """
    if isinstance(arguments, LMCacheConfig):
        return arguments
    variables = os.environ if environ is None else environ
    layers: list[Layer] = []
    if arguments:
        layers.append(argument_layer(arguments, argument_name))
    layers.append(environment_layer(variables))
    if file is not None:
        layers.append(file_layer(file))
    elif named := variables.get(CONFIG_FILE_VARIABLE, "").strip():
        layers.append(file_layer(named, f"named by {CONFIG_FILE_VARIABLE}"))
    config = LMCacheConfig.from_resolved(resolve(LMCacheConfig.model_fields, layers))
    if log_warnings:
        for warning in config.warnings:
            _log.warning("%s", warning)
    return config
