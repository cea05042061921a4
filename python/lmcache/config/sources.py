# SPDX-License-Identifier: Apache-2.0
"""Where settings come from, and reading each of those places into a layer of named raw values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lmcache.config.aliases import ENVIRONMENT_PREFIX, NOT_SETTINGS, NOT_SETTINGS_PREFIXES
from lmcache.errors import ConfigError

_YAML_NULL = "tag:yaml.org,2002:null"

SourceKind = Literal["argument", "environment", "file", "default"]


@dataclass(frozen=True)
class Source:
    """Where the value of a setting came from."""

    kind: SourceKind
    # The argument, the environment variable, or FILE:LINE; empty for a default.
    place: str = ""
    # The other setting that implied this one, if it was not set itself.
    implied_by: str = ""

    def __str__(self) -> str:
        where = {
            "argument": self.place,
            "environment": f"environment variable {self.place}",
            "file": self.place,
            "default": "default",
        }[self.kind]
        return f"implied by {self.implied_by}, {where}" if self.implied_by else where


DEFAULT = Source("default")


@dataclass(frozen=True)
class Setting:
    """One value as it was written."""

    name: str  # as written, lower case where it was an environment variable
    value: Any
    source: Source


@dataclass(frozen=True)
class Layer:
    """All settings of one place."""

    settings: tuple[Setting, ...]
    # Values are text and are read according to the type of the setting.
    text: bool = False
    # A name we do not know is an error, not a warning: the program that passes it was written for
    # us.
    strict: bool = False


def argument_layer(arguments: Mapping[str, Any], place: str) -> Layer:
    """Return the layer of a dictionary passed by the program, called `place` in messages."""
    source = Source("argument", place)
    for name in arguments:
        if not isinstance(name, str):
            raise ConfigError(f"{place}: the key {name!r} is not text")
    settings = tuple(Setting(name, value, source) for name, value in arguments.items())
    return Layer(settings, strict=True)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the layer of the `LMCACHE_*` variables. An empty variable counts as absent."""
    return Layer(tuple(_environment_settings(environ)), text=True)


def _environment_settings(environ: Mapping[str, str]) -> Iterator[Setting]:
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or not environ[variable].strip():
            continue
        if variable in NOT_SETTINGS or variable.startswith(NOT_SETTINGS_PREFIXES):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        yield Setting(name, environ[variable], Source("environment", variable))


def file_layer(path: str | os.PathLike[str], asked_by: str = "") -> Layer:
    """Return the layer of a YAML file; `asked_by` says who named the file, for the messages."""
    origin = f" ({asked_by})" if asked_by else ""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}{origin}: {why}") from error
    try:
        return Layer(tuple(_yaml_settings(text, os.fspath(path))))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise ConfigError(f"{path}{line}{origin} is not valid YAML: {why}") from error


def _yaml_settings(text: str, path: str) -> Iterator[Setting]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None or node.tag == _YAML_NULL:  # an empty file, or comments alone
            return
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{path}:{node.start_mark.line + 1} is not a list of settings; "
                'write one "name: value" per line'
            )
        loader.flatten_mapping(node)
        for key, value in node.value:
            source = Source("file", f"{path}:{key.start_mark.line + 1}")
            name = str(loader.construct_object(key, deep=True))
            yield Setting(name, loader.construct_object(value, deep=True), source)
    finally:
        loader.dispose()
