# SPDX-License-Identifier: Apache-2.0
"""The namespace of one model: bound by a declared geometry, or found in the segment by its name."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from typing import Any

from lmcache import _native
from lmcache.errors import GeometryError
from lmcache.types import KV_LAYOUT, KVGeometry

_CUT = "..."  # what the segment puts at the end of a text that it could not keep in full


@dataclass(frozen=True)
class ModelIdentity:
    """Whose KV it is. KV is exchanged only between equal identities, geometries and chunk sizes."""

    model: str
    revision: str = ""
    lora: str = ""  # name and version of the adapter
    salt: str = ""  # tenant

    def spec(self, geometry: KVGeometry, chunk_tokens: int) -> _native.NamespaceSpec:
        """Return the namespace of this model's KV in `geometry`."""
        details = {
            "layers": geometry.layers,
            "kv_heads": geometry.kv_heads,
            "head_dim": geometry.head_dim,
        }
        return _native.NamespaceSpec(
            model=self.model,
            revision=self.revision,
            geometry=_native.KvGeometry(
                geometry.dtype,
                KV_LAYOUT,
                [_native.KvGroup(1, [geometry.plane_bytes] * geometry.planes)],
                json.dumps(details, separators=(",", ":")),
            ),
            chunk_tokens=chunk_tokens,
            lora=self.lora,
            salt=self.salt,
        )

    def geometry_in(self, record: dict[str, Any], chunk_tokens: int) -> KVGeometry | None:
        """Return the geometry of a namespace that a segment lists; None when it is not of us."""
        try:
            made_of = json.loads(record["description"])
            geometry = made_of["geometry"]
            details = json.loads(geometry["details"])
            salt = hashlib.sha256(self.salt.encode()).hexdigest()[:8] if self.salt else ""
            ours = (
                all(_is(made_of[name], getattr(self, name)) for name in _NAMES)
                and made_of["salt_sha256"] == salt
                and (made_of["chunk_tokens"], made_of["world_size"]) == (chunk_tokens, 1)
                and (made_of["extra"], geometry["layout"]) == ("", KV_LAYOUT)
            )
            return KVGeometry(**details, dtype=geometry["dtype"]) if ours else None
        except (KeyError, TypeError, ValueError):  # of another integration, or too long to be kept
            return None


_NAMES = ("model", "revision", "lora")


def _is(kept: str, text: str) -> bool:
    """Tell whether a segment kept `text`, or its beginning, as `kept`."""
    return kept == text or (kept.endswith(_CUT) and text.startswith(kept[: -len(_CUT)]))


class ModelSpace:
    """The namespace of a model in an engine, opened as soon as the geometry is known. Thread-safe.

    `geometry` and `namespace` are None until then.
    """

    def __init__(self, engine: _native.Engine, identity: ModelIdentity, chunk_tokens: int) -> None:
        self.geometry: KVGeometry | None = None
        self.namespace: _native.Namespace | None = None
        self.identity = identity
        self.chunk_tokens = chunk_tokens
        self._engine = engine
        self._lock = threading.Lock()

    def bind(self, geometry: KVGeometry) -> _native.Namespace:
        """Open the namespace of `geometry`, or check that it is the one that is open.

        Raises `GeometryError` if it is another, and what opening a namespace raises.
        """
        with self._lock:
            if self.namespace is None:
                spec = self.identity.spec(geometry, self.chunk_tokens)
                namespace = self._engine.open_namespace(spec)
                self._engine.declare_lane(namespace, 0, geometry.token_bytes)
                self.geometry, self.namespace = geometry, namespace
            elif geometry != self.geometry:
                raise GeometryError(f"KV is {geometry}, this engine's is {self.geometry}")
            return self.namespace

    def new_prompt(self, geometry: KVGeometry | None) -> _native.Prompt:
        """Return an empty chain of keys; without a geometry one that only checks the tokens."""
        if self.namespace is not None and geometry == self.geometry:
            root = self.namespace.root
        elif geometry is not None:
            root = self.identity.spec(geometry, self.chunk_tokens).root()
        else:
            root = bytes(32)
        return _native.Prompt(root, self.chunk_tokens)

    def find(self) -> str:
        """Bind to the only geometry in which the segment holds KV of this model.

        Returns why that is not possible; empty if bound.
        """
        if self.namespace is not None:
            return ""
        found = {
            geometry
            for record in self._engine.status()["namespaces"]
            if (geometry := self.identity.geometry_in(record, self.chunk_tokens)) is not None
        }
        if not found:
            return "nothing of it is in the segment, and no geometry was given"
        if len(found) > 1:
            kinds = "; ".join(sorted(map(str, found)))
            return f"the segment holds it in {len(found)} geometries ({kinds}): pass geometry="
        self.bind(found.pop())
        return ""
