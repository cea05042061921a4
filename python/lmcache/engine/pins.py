# SPDX-License-Identifier: Apache-2.0
"""Pins: leases of this process that last until they are given back, or the process ends."""

from __future__ import annotations

import threading

from lmcache import _native


class Pins:
    """The leases a process holds by name of a prompt. Thread-safe.

    A prompt pinned twice stays until it is unpinned twice.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: dict[bytes, list[_native.Hit]] = {}

    def add(self, prompt: _native.Prompt, hit: _native.Hit) -> None:
        """Keep a lease."""
        with self._lock:
            self._held.setdefault(prompt_key(prompt), []).append(hit)

    def remove(self, prompt: _native.Prompt) -> int:
        """Give back the last lease of this very prompt; return its tokens, 0 if there is none."""
        key = prompt_key(prompt)
        with self._lock:
            hits = self._held.get(key, [])
            if not hits:
                return 0
            hit = hits.pop()
            if not hits:
                del self._held[key]
        tokens = hit.prefix_tokens
        hit.release()
        return tokens

    def release_all(self) -> None:
        """Give back every lease."""
        with self._lock:
            held, self._held = self._held, {}
        for hits in held.values():
            for hit in hits:
                hit.release()


def prompt_key(prompt: _native.Prompt) -> bytes:
    """Return the key of a whole prompt, which may end inside a chunk."""
    if prompt.token_count % prompt.chunk_tokens:
        return prompt.tail_key(prompt.chunk_count, prompt.token_count)
    return prompt.key(prompt.chunk_count - 1)
