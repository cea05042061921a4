# SPDX-License-Identifier: Apache-2.0
"""How fast KV is stored and loaded, against memcpy of the same bytes in the same run.

A paged KV cache as vLLM lays it out, one pool of pages per layer, is stored chunk by chunk into a
private segment and loaded back. The pages of a chunk are scattered over the pool at random, each
buffer is larger than the caches, and every page was touched before. The three copies take turns, so
that a machine whose speed drifts slows all of them; a ratio is the median over the rounds of the
ratio within a round.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from lmcache import _native
from lmcache.engine.opening import slot_bytes
from lmcache.errors import LMCacheError

LAYERS = 32
BLOCK_TOKENS = 16
CHUNK_TOKENS = 256
PAGE_BYTES = 8192
CHUNK_BLOCKS = CHUNK_TOKENS // BLOCK_TOKENS
CHUNK_BYTES = LAYERS * CHUNK_BLOCKS * PAGE_BYTES  # 4 MiB
# What one step of an engine stores or loads, e.g. 4,096 tokens: a job.
JOB_CHUNKS = 16
# Reach this and a copy costs what memory costs.
LEAST_RATIO = 0.9

_LINE_BYTES = 64
_WAIT_MS = 60_000
_Item = TypeVar("_Item")

# ctypes calls functions of a CDLL without the GIL, which its own memmove() keeps.
_memcpy = ctypes.CDLL(None).memcpy
_memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcpy.restype = ctypes.c_void_p


@dataclass(frozen=True)
class MemoryBench:
    """What to measure: three buffers of `pool_bytes`, `threads` copying."""

    pool_bytes: int = 1 << 30
    rounds: int = 9
    threads: int = 0  # 0: one per CPU of this process, 4 at most

    def run(self, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench memory --json`."""
        threads = self.threads or min(4, len(os.sched_getaffinity(0)))
        progress("making the buffers")
        with _Scene(max(1, self.pool_bytes // CHUNK_BYTES), threads) as scene:
            scene.store(), scene.load()  # touches every page of the segment
            rounds = []
            for number in range(self.rounds):
                progress(f"round {number + 1} of {self.rounds}")
                rounds.append((scene.copy(), scene.store(), scene.load()))
            size = scene.size_bytes
        copies, stores, loads = zip(*rounds, strict=True)
        return {
            "memcpy_gbps": _gbps(size, copies),
            "store_gbps": _gbps(size, stores),
            "load_gbps": _gbps(size, loads),
            "store_ratio": _ratio(copies, stores),
            "load_ratio": _ratio(copies, loads),
            "threads": threads,
        }


def _gbps(size_bytes: int, seconds: tuple[float, ...]) -> float:
    return round(size_bytes / statistics.median(seconds) / 1e9, 2)


def _ratio(copies: tuple[float, ...], ours: tuple[float, ...]) -> float:
    ratios = [copy / own for copy, own in zip(copies, ours, strict=True)]
    return round(statistics.median(ratios), 3)


def _jobs(items: list[_Item]) -> Iterator[list[_Item]]:
    for first in range(0, len(items), JOB_CHUNKS):
        yield items[first : first + JOB_CHUNKS]


def _filled(size_bytes: int, value: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return memory that begins with a cache line, as that of a tensor does; NumPy's does not."""
    memory = np.full(size_bytes + _LINE_BYTES, value, np.uint8)
    first = -memory.ctypes.data % _LINE_BYTES
    return memory[first : first + size_bytes]


class _Scene:
    """The buffers, and the three things that are timed. Each returns seconds."""

    def __init__(self, chunks: int, threads: int) -> None:
        self.size_bytes = chunks * CHUNK_BYTES
        blocks = chunks * CHUNK_BLOCKS
        random = np.random.default_rng(0)
        self._pool = _filled(self.size_bytes, 1).reshape(LAYERS, blocks, PAGE_BYTES)
        self._plain = _filled(self.size_bytes, 2)
        order = random.permutation(blocks).reshape(chunks, CHUNK_BLOCKS)
        self._blocks: list[list[int]] = order.tolist()
        self._tokens = random.integers(0, 1 << 20, chunks * CHUNK_TOKENS, np.int32)
        self._workers = ThreadPoolExecutor(threads)
        self._threads = threads
        options = _native.EngineOptions(
            capacity_bytes=self.size_bytes + self.size_bytes // 8 + (64 << 20),
            chunk_bytes_hint=slot_bytes(CHUNK_BYTES // CHUNK_TOKENS, CHUNK_TOKENS),
            copy_threads=threads,
            role="bench",
        )
        self._engine = _native.Engine.open(options, lambda _level, _text: None)
        group = _native.KvGroup(BLOCK_TOKENS, [PAGE_BYTES] * LAYERS)
        geometry = _native.KvGeometry("uint8", "bench", [group])
        self._space = self._engine.open_namespace(
            _native.NamespaceSpec("bench", "", geometry, CHUNK_TOKENS)
        )
        self._engine.declare_lane(self._space, 0, PAGE_BYTES * LAYERS)
        layers = [(plane.ctypes.data, PAGE_BYTES, PAGE_BYTES) for plane in self._pool]
        self._view = self._engine.register_view(layers, blocks, BLOCK_TOKENS)

    def copy(self) -> float:
        """Copy the pool with memcpy, each thread one share of it."""
        share = self.size_bytes // self._threads
        source, target = self._pool.ctypes.data, self._plain.ctypes.data
        shares = [(target + at * share, source + at * share) for at in range(self._threads)]
        started = time.perf_counter()
        for done in [self._workers.submit(_memcpy, *pair, share) for pair in shares]:
            done.result()
        return time.perf_counter() - started

    def store(self) -> float:
        """Store every chunk, reservation and publishing included, hashing excluded."""
        self._engine.clear()
        prompt = self._prompt()
        started = time.perf_counter()
        (refs,) = self._engine.reserve(self._space, prompt, 0, prompt.token_count)
        if not all(refs):
            raise LMCacheError("the segment of the measurement is too small")
        items = list(zip(refs, self._blocks, strict=True))
        self._finish([self._engine.submit_store(self._view, job) for job in _jobs(items)])
        return time.perf_counter() - started

    def load(self) -> float:
        """Load every chunk, look-up included, hashing excluded."""
        prompt = self._prompt()
        started = time.perf_counter()
        with self._engine.lookup(self._space, prompt) as hit:
            chunks = zip(hit.refs(0), self._blocks, strict=True)
            items = [(ref, 0, blocks) for ref, blocks in chunks]
            self._finish([self._engine.submit_load(self._view, job) for job in _jobs(items)])
        return time.perf_counter() - started

    def _prompt(self) -> _native.Prompt:
        prompt = self._engine.new_prompt(self._space)
        prompt.append(self._tokens)
        return prompt

    def _finish(self, jobs: list[int]) -> None:
        for job in jobs:
            if not self._engine.wait(job, _WAIT_MS) or self._engine.finish(job):
                raise LMCacheError("a copy of the measurement failed")

    def __enter__(self) -> _Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown()
        self._engine.close()
