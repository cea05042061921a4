# SPDX-License-Identifier: Apache-2.0
"""Copies between a caller's array and the segment, as jobs of the native engine.

Invariant: no thread of ours touches an array after its job is over, and a job is over before its
array is let go.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from lmcache import _native
from lmcache.engine.arrays import HostArray
from lmcache.types import KVGeometry

# Between two looks at whether the user wants to stop (Ctrl-C).
_SLICE_MS = 100
# A copy that is slower than this is not coming: some other program has stopped the machine.
_PATIENCE_S = 10.0
_SLOWEST_BYTES_PER_S = 50e6


@dataclass
class Copy:
    """A job under way. `array` stays alive as long as this does."""

    engine: _native.Engine
    job: int
    view: int
    array: HostArray
    piece_tokens: list[int]  # of each item, in order
    size_bytes: int

    def done(self) -> bool:
        """Tell whether the copy is over, without waiting."""
        return self.engine.poll(self.job)

    def finish(self) -> list[int]:
        """Wait for the end; return the tokens of each item, 0 for those that failed.

        A copy that does not end, or is interrupted, is cancelled.
        """
        deadline = time.monotonic() + _PATIENCE_S + self.size_bytes / _SLOWEST_BYTES_PER_S
        over = False
        try:
            while not over and time.monotonic() < deadline:
                over = self.engine.wait(self.job, _SLICE_MS)
        finally:
            if not over:
                self.engine.cancel_job(self.job)
                self.engine.wait(self.job, _SLICE_MS)
            failed = set(self.engine.finish(self.job))
            self.engine.unregister_view(self.view)
        return [0 if at in failed else tokens for at, tokens in enumerate(self.piece_tokens)]


def start_store(
    engine: _native.Engine,
    space: tuple[_native.Namespace, KVGeometry],
    prompt: _native.Prompt,
    array: HostArray,
    end_token: int,
) -> Copy | None:
    """Begin to store the chunks of tokens 0 to `end_token` that are not there; None if all are."""
    namespace, geometry = space
    view = _register(engine, array, geometry)
    new: list[tuple[int, range]] = []
    try:
        (refs,) = engine.reserve(namespace, prompt, 0, end_token)
        pieces = _pieces(end_token, prompt.chunk_tokens)
        # Fewer refs than pieces: the cache could not even look.
        new = [(ref, piece) for ref, piece in zip(refs, pieces, strict=False) if ref]
        if not new:
            engine.unregister_view(view)
            return None
        job = engine.submit_store(view, new)
    except BaseException:
        engine.cancel([ref for ref, _ in new])
        engine.unregister_view(view)
        raise
    return _copy(engine, job, view, array, [span for _, span in new], geometry)


def load(
    engine: _native.Engine,
    geometry: KVGeometry,
    hit: _native.Hit,
    array: HostArray,
    chunk_tokens: int,
) -> int:
    """Load a hit into the first tokens of `array`; return how many arrived without a gap."""
    spans = _pieces(hit.prefix_tokens, chunk_tokens)
    items = [(ref, 0, span) for ref, span in zip(hit.refs(0), spans, strict=True)]
    view = _register(engine, array, geometry)
    try:
        job = engine.submit_load(view, items)
    except BaseException:
        engine.unregister_view(view)
        raise
    copy = _copy(engine, job, view, array, spans, geometry)
    loaded = 0
    for span, arrived in zip(spans, copy.finish(), strict=True):
        if arrived != len(span):
            break
        loaded += arrived
    return loaded


def _pieces(end_token: int, chunk_tokens: int) -> list[range]:
    """Return the tokens of each chunk, the last one cut at `end_token`."""
    return [
        range(first, min(end_token, first + chunk_tokens))
        for first in range(0, end_token, chunk_tokens)
    ]


def _register(engine: _native.Engine, array: HostArray, geometry: KVGeometry) -> int:
    """Register an array as planes of one page per token."""
    page, tokens = geometry.plane_bytes, array.shape[2]
    planes = [
        (array.address + plane * tokens * page, page, page) for plane in range(geometry.planes)
    ]
    return engine.register_view(planes, tokens, 1)


def _copy(
    engine: _native.Engine,
    job: int,
    view: int,
    array: HostArray,
    spans: list[range],
    geometry: KVGeometry,
) -> Copy:
    counts = [len(span) for span in spans]
    return Copy(engine, job, view, array, counts, sum(counts) * geometry.token_bytes)
