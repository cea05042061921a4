# SPDX-License-Identifier: Apache-2.0
"""A native engine that serves requests of 16-token chunks and writes down what came of each."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from lmcache import _native

CHUNK, BLOCK, PAGE, BLOCKS = 16, 4, 256, 256


class TracedEngine:
    """`segment` is a folder and a name. A context manager."""

    def __init__(self, segment: str, capacity_bytes: int = 4 << 20) -> None:
        folder, name = os.path.split(segment)
        self.path = f"{folder}/lmcache-{os.geteuid()}-{name}"
        options = _native.EngineOptions(
            segment=name, directory=folder, capacity_bytes=capacity_bytes, keep=True, role="test"
        )
        self.native = _native.Engine.open(options, lambda level, text: None)
        self._memory = np.zeros((BLOCKS, PAGE), dtype=np.uint8)
        plane = (int(self._memory.ctypes.data), PAGE, PAGE)
        self._view = self.native.register_view([plane], BLOCKS, BLOCK)

    def space(self, model: str = "m", salt: str = "") -> _native.Namespace:
        """Open a namespace."""
        geometry = _native.KvGeometry("bfloat16", "test", [_native.KvGroup(BLOCK, [PAGE])])
        spec = _native.NamespaceSpec(model, "", geometry, CHUNK, salt=salt)
        space = self.native.open_namespace(spec)
        self.native.declare_lane(space, 0, PAGE)
        return space

    def serve(
        self,
        request_id: str,
        tokens: Sequence[int],
        *,
        store: bool = True,
        outcome: str = "looked_up",
        note: str = "",
        **names: str,
    ) -> int:
        """Look up, write down, store; return how many tokens were found."""
        space = self.space(**names)
        prompt = self.native.new_prompt(space)
        prompt.append(tokens)
        limit = len(tokens) - 1
        with self.native.lookup(space, prompt, limit) as hit:
            found = int(hit.prefix_tokens)
        counts = (len(tokens), limit, 0, found, found, found, 0)
        self.native.trace_request(request_id, outcome, space, prompt, counts, note=note)
        if store:
            self._store(space, prompt, len(tokens))
        return found

    def _store(self, space: _native.Namespace, prompt: _native.Prompt, tokens: int) -> None:
        (refs,) = self.native.reserve(space, prompt, 0, tokens)
        items = []
        for chunk, ref in enumerate(refs):
            if ref:
                left = min(CHUNK, tokens - chunk * CHUNK)
                items.append((ref, list(range(-(-left // BLOCK)))))
        job = self.native.submit_store(self._view, items)
        assert self.native.wait(job, 10_000)
        assert not self.native.finish(job)

    def __enter__(self) -> TracedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.native.close()
