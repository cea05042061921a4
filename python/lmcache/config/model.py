# SPDX-License-Identifier: Apache-2.0
"""`LMCacheConfig`: every setting, valid and frozen, with the place each value came from."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from lmcache.config.availability import unavailable
from lmcache.config.fields.blending import BlendingOptions
from lmcache.config.fields.chunks import ChunkOptions
from lmcache.config.fields.control import ControlOptions
from lmcache.config.fields.disk import DiskOptions
from lmcache.config.fields.dram import DramOptions
from lmcache.config.fields.remote import RemoteOptions
from lmcache.config.resolve import Resolved, resolve
from lmcache.config.segment import SegmentPlace, segment_place
from lmcache.config.sources import DEFAULT, Source, argument_layer

# The parts in the order in which people read them.
SECTIONS: tuple[type[BaseModel], ...] = (
    ChunkOptions,
    DramOptions,
    DiskOptions,
    RemoteOptions,
    BlendingOptions,
    ControlOptions,
)


@dataclass(frozen=True)
class _Provenance:
    """How a configuration came about. Not part of its value: two equal configurations are equal."""

    sources: Mapping[str, Source] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)


# Python collects the fields of the last base first, so the bases stand in reverse reading order.
class LMCacheConfig(
    ControlOptions, BlendingOptions, RemoteOptions, DiskOptions, DramOptions, ChunkOptions
):
    """The configuration of one engine. Sizes are in GB = 10^9 bytes, times in seconds.

    `LMCacheConfig(chunk_size=128, cache_policy="LRU")` takes the names of both dialects and looks
    neither at the environment nor at a file; `load_config` does. Raises
    `lmcache.errors.ConfigError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    _provenance: _Provenance = PrivateAttr(default_factory=_Provenance)

    def __init__(self, **settings: Any) -> None:
        fields = type(self).model_fields
        self._accept(resolve(fields, [argument_layer(settings, "argument")]))

    @classmethod
    def from_resolved(cls, resolved: Resolved) -> LMCacheConfig:
        """Make a configuration of values that `resolve` has validated, and keep their sources."""
        config = cls.__new__(cls)
        config._accept(resolved)
        return config

    def _accept(self, resolved: Resolved) -> None:
        super().__init__(**resolved.values)
        self._provenance = _Provenance(dict(resolved.sources), tuple(resolved.warnings))

    @property
    def sources(self) -> dict[str, Source]:
        """The place each value came from, by field."""
        return {
            name: self._provenance.sources.get(name, DEFAULT) for name in type(self).model_fields
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was ignored while loading, one line each."""
        return self._provenance.warnings

    def unavailable(self) -> list[tuple[str, str]]:
        """Return (field, why) for everything asked for that this version does not do."""
        return unavailable(self)

    @property
    def instance_id(self) -> str:
        """The name of this instance; by default one that no other process of the cluster has."""
        return self.lmcache_instance_id or f"{socket.gethostname()}-{os.getpid()}"

    @property
    def segment_place(self) -> SegmentPlace:
        """Where the shared memory lies and who removes it."""
        return segment_place(self.segment)
