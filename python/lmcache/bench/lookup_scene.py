# SPDX-License-Identifier: Apache-2.0
"""A segment full of chunks with a tiny payload, and one prompt that is looked up in it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lmcache import _native
from lmcache.errors import LMCacheError

Tokens = np.ndarray[Any, np.dtype[np.int32]]

CHUNK_TOKENS = 256
_PAGE_BYTES = 16
# A slot: the payload, the token ids, rounded up; with room for what an extent cannot use.
_SLOT_BYTES = 1280
_SPARE_BYTES = 64 << 20
_FILL_TOKENS = 131_072
_WAIT_MS = 60_000
# glibc keeps freed memory up to twice the largest block that was ever mapped and freed, 32 MiB at
# most. A serving process has freed larger ones long ago; a young one gives the 512 KiB of a prompt
# back to the kernel each time, and pays 0.1 ms for pages that are cleared anew.
_LARGE_BLOCK_BYTES = 30 << 20


class LookupScene:
    """One process's engine on the segment of the measurement."""

    def __init__(self, segment: str, entries: int, *, create: bool) -> None:
        bytearray(_LARGE_BLOCK_BYTES)  # made and freed
        options = _native.EngineOptions(
            segment=segment,
            capacity_bytes=self.memory_bytes(entries),
            max_entries=max(1 << 12, 2 * entries) if create else 0,
            role="bench",
            copy_threads=1,
        )
        self._engine = _native.Engine.open(options, lambda _level, _text: None)
        # One block is one chunk, so that a chunk is as small as its token ids.
        geometry = _native.KvGeometry(
            "uint8", "bench", [_native.KvGroup(CHUNK_TOKENS, [_PAGE_BYTES])]
        )
        self._space = self._engine.open_namespace(
            _native.NamespaceSpec("bench", "", geometry, CHUNK_TOKENS)
        )
        self._engine.declare_lane(self._space, 0, _PAGE_BYTES)
        self._page = np.zeros(_PAGE_BYTES, np.uint8)
        page = (self._page.ctypes.data, _PAGE_BYTES, _PAGE_BYTES)
        self._view = self._engine.register_view([page], 1, CHUNK_TOKENS)
        self._random = np.random.default_rng(2)
        self._stored = 0

    @staticmethod
    def memory_bytes(entries: int) -> int:
        """Return the size of a segment that holds so many chunks."""
        return entries * _SLOT_BYTES + _SPARE_BYTES

    def store(self, tokens: Tokens) -> None:
        """Store the chunks of a prompt."""
        prompt = self._prompt(tokens)
        (refs,) = self._engine.reserve(self._space, prompt, 0, prompt.token_count)
        if not all(refs):
            raise LMCacheError("the segment of the measurement is too small")
        job = self._engine.submit_store(self._view, [(ref, [0]) for ref in refs])
        if not self._engine.wait(job, _WAIT_MS) or self._engine.finish(job):
            raise LMCacheError("a copy of the measurement failed")
        self._stored += len(refs)

    def fill(self, entries: int) -> None:
        """Store chunks of random prompts until there are `entries` of them."""
        while self._stored < entries:
            chunks = min(entries - self._stored, _FILL_TOKENS // CHUNK_TOKENS)
            self.store(self._random.integers(0, 1 << 30, chunks * CHUNK_TOKENS, np.int32))

    def lookup_us(self, tokens: Tokens) -> float:
        """Return what a request with these tokens pays; all of them must be there."""
        started = time.perf_counter()
        prompt = self._prompt(tokens)
        hit = self._engine.lookup(self._space, prompt)
        elapsed = time.perf_counter() - started
        found = hit.prefix_tokens
        hit.release()
        if found != len(tokens):
            raise LMCacheError(f"{found} of {len(tokens)} tokens were found")
        return elapsed * 1e6

    def _prompt(self, tokens: Tokens) -> _native.Prompt:
        prompt = self._engine.new_prompt(self._space)
        prompt.append(tokens)
        return prompt

    def __enter__(self) -> LookupScene:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
