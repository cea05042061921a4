# SPDX-License-Identifier: Apache-2.0
"""Layers of raw settings turned into one valid value and one source per field.

All mistakes are collected and reported together, so that a file is corrected in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from lmcache.config import aliases
from lmcache.config.allowed import allowed_text, choices
from lmcache.config.near_miss import near_miss
from lmcache.config.sources import Layer, Setting, Source
from lmcache.config.text import from_text, says_none
from lmcache.config.value_types import printable
from lmcache.errors import ConfigError

Fields = Mapping[str, FieldInfo]


@dataclass
class Resolved:
    """The outcome: values and sources of the fields that were set, and warnings."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def resolve(fields: Fields, layers: Sequence[Layer]) -> Resolved:
    """Merge `layers`, the first one having precedence. ConfigError lists every mistake."""
    result, problems = Resolved(), []
    for layer in layers:
        found = _LayerReader(fields, layer)
        problems += found.problems
        result.warnings += found.warnings
        for name, (setting, value) in found.values.items():
            if name not in result.values:
                result.values[name] = value
                result.sources[name] = setting.source
    if not problems:
        problems = _contradictions(result)
    if problems:
        raise ConfigError(problems)
    return result


class _LayerReader:
    """Reads one layer: valid values by field, and what is wrong."""

    def __init__(self, fields: Fields, layer: Layer) -> None:
        self._fields = fields
        self._layer = layer
        self.values: dict[str, tuple[Setting, Any]] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._obsolete: dict[str, list[Setting]] = {}
        for setting in layer.settings:
            self._read(setting)
        for setting in layer.settings:
            self._imply(setting)
        for why, settings in self._obsolete.items():
            self.warnings.append(f"{', '.join(map(_named, settings))}: no effect, {why}")

    def _read(self, written: Setting) -> None:
        name, raw = aliases.translated(written.name, written.value)
        setting = Setting(written.name, raw, written.source)
        why = aliases.why_obsolete(name)
        if why is not None:
            self._obsolete.setdefault(why, []).append(setting)
            return
        target = aliases.field_of(name, self._fields)
        if target is None:
            self._unknown(setting)
            return
        info = self._fields[target]
        if says_none(raw) and "none" not in choices(info.annotation) and info.annotation is not str:
            raw = None
        elif self._layer.text:
            raw = from_text(info.annotation, raw)
        if raw is None and not _takes_none(info):
            return  # absent, however it was spelled
        try:
            value = _adapter(info).validate_python(raw, strict=True)
        except ValidationError:
            self.problems.append(_wrong(setting, info, quoted=not self._layer.text))
            return
        first, first_value = self.values.setdefault(target, (setting, value))
        if first_value != value:
            self.problems.append(
                f"{_shown(first)} and {_shown(setting)} are the same setting and disagree; keep one"
            )

    def _unknown(self, setting: Setting) -> None:
        environment = setting.source.kind == "environment"
        known = [name for own in self._fields for name in aliases.names_of(own)]
        if environment:
            known = [name for own in self._fields for name in aliases.environment_names(own)]
        written = setting.source.place if environment else setting.name
        hint = near_miss(written.removeprefix(aliases.PREFIX), known)
        if self._layer.strict:
            self.problems.append(f"{_named(setting)} is not a setting{hint or _SEE_ALL}")
        else:
            self.warnings.append(f"{_named(setting)} is not a setting and is ignored{hint}")

    def _imply(self, setting: Setting) -> None:
        raw = None if says_none(setting.value) else setting.value
        for target, value in aliases.implied_by(setting.name, raw).items():
            source = Source(setting.source.kind, setting.source.place, implied_by=setting.name)
            self.values.setdefault(target, (Setting(target, value, source), value))


_SEE_ALL = "; `lmcache config show` lists them all"


def _contradictions(result: Resolved) -> list[str]:
    """Return what is wrong with settings taken together."""
    values, sources = result.values, result.sources
    if values.get("enable_remote_cache") and values.get("remote_url") is None:
        source = sources["enable_remote_cache"]
        return [f"enable_remote_cache = true ({source}) needs remote_url, the address of the store"]
    return []


@cache
def _type_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _adapter(info: FieldInfo) -> TypeAdapter[Any]:
    """Return the validator of one field; pydantic keeps the limits apart from the type."""
    kind: Any = info.annotation
    for item in info.metadata:
        kind = Annotated[kind, item]
    return _type_adapter(kind)


def _takes_none(info: FieldInfo) -> bool:
    return info.default is None


def _wrong(setting: Setting, info: FieldInfo, quoted: bool) -> str:
    words, value = choices(info.annotation), setting.value
    hint = near_miss(str(value), words, likeness=0.5) if words else ""
    if quoted and isinstance(value, str) and not isinstance(from_text(info.annotation, value), str):
        hint = "; remove the quotes"
    return f"{_shown(setting)}: must be {allowed_text(info)}{hint}"


def _named(setting: Setting) -> str:
    """Name a setting and its place: `"foo" (deploy.yaml:3)`."""
    if setting.source.kind == "environment":
        return str(setting.source)
    return f'"{setting.name}" ({setting.source})'


def _shown(setting: Setting) -> str:
    """Show a setting with its value and place, quoting text so that "256" differs from 256."""
    value = setting.value
    plain = value if isinstance(value, str) else repr(value)
    text = printable(setting.name.lower(), plain)
    text = f'"{text}"' if isinstance(value, str) else text
    if isinstance(value, bool):
        text = str(value).lower()
    return f"{setting.name} = {text} ({setting.source})"
