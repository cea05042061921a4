# SPDX-License-Identifier: Apache-2.0
"""`LMCacheEngine`: the cache for programs that hold KV in arrays of their own."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from lmcache import _native
from lmcache.config import LMCacheConfig, load_config
from lmcache.engine.arrays import host_array
from lmcache.engine.gate import Gate
from lmcache.engine.kv_check import append_tokens, check_source, check_target, declared_geometry
from lmcache.engine.model_space import ModelIdentity, ModelSpace
from lmcache.engine.opening import open_native, slot_bytes
from lmcache.engine.pins import Pins
from lmcache.engine.transfers import Copy, load, start_store
from lmcache.errors import ClosedError, InvalidArgumentError, LMCacheError
from lmcache.observe import EngineStats, get_cache_stats
from lmcache.remote import Remote
from lmcache.types import KVGeometry

_log = logging.getLogger("lmcache")

# Mistakes of the caller. Every other error of the library is a miss here.
_MISTAKES = (InvalidArgumentError, ClosedError)
# A disk that takes longer counts as a miss; the rule that weighs loading gives up sooner.
_FETCH_TIMEOUT_MS = 10_000
_FLUSH_TIMEOUT_MS = 60_000
_LEAVING_TIMEOUT_S = 12.0  # longer than a fetch


class LMCacheEngine:
    """Stores and finds the KV of token sequences, shared with every process on the same segment.

    KV is one C-contiguous array `[layers, 2, tokens, kv_heads, head_dim]` (K before V) in host
    memory: NumPy, torch, or anything with DLPack or the buffer protocol. Tokens are a sequence of
    int or an integer array, ids from 0 to 2^31 - 1, at least one.

    `config` is an `LMCacheConfig`, a dictionary in either dialect, or None; environment and file
    count too (see `lmcache.load_config`). KV is found only under the same `model`, `revision`,
    `lora` (adapter) and `salt` (tenant), geometry and chunk size. `geometry` says what the KV is
    made of; without it the first array does, or what the segment already holds of the model.
    `remote` is a remote store of your own instead of the configured one, closed with the engine.

    A cache that is full, slow or gone is a miss, counted in `stats()`. Only mistakes of the caller
    raise: `GeometryError` (an array), `InvalidArgumentError` (any other value), TypeError,
    `ClosedError` (after `close()`); opening raises `LMCacheError`. Thread-safe.

        with LMCacheEngine({"max_local_cpu_size": 4}, model="my-model") as cache:
            cache.store(tokens, kv)
            hit = cache.retrieve(tokens, out)  # out[:, :, :hit] is there; compute the rest
    """

    def __init__(
        self,
        config: LMCacheConfig | Mapping[str, Any] | None = None,
        *,
        model: str = "default",
        revision: str = "",
        lora: str = "",
        salt: str = "",
        geometry: KVGeometry | None = None,
        role: str = "engine",
        remote: Remote | None = None,
    ) -> None:
        self.config = load_config(config, argument_name="config")
        chunk_tokens = self.config.chunk_size
        hint = slot_bytes(geometry.token_bytes, chunk_tokens) if geometry is not None else 0
        self._native = open_native(self.config, role=role, chunk_bytes_hint=hint, remote=remote)
        self._gate = Gate()
        # Also when the program just ends: the last to leave removes a segment that is not kept.
        self._leave = weakref.finalize(self, _leave, self._gate, self._native)
        below = self._native.has_lower_tier
        self._keeps = self.config.enable_prefix_cache and (self.config.local_cpu or below)
        self._observed = EngineStats(self._native)
        self._pins = Pins()
        self._lock = threading.RLock()  # guards _pending and _told; close() may come from a signal
        self._pending: list[Copy] = []
        self._told: set[str] = set()
        identity = ModelIdentity(model, revision, lora, salt)
        self._space = ModelSpace(self._native, identity, chunk_tokens)
        try:
            if geometry is not None:
                self._space.bind(geometry)
        except LMCacheError:
            self.close()
            raise

    @property
    def geometry(self) -> KVGeometry | None:
        """What the KV is made of; None until it is known."""
        return self._space.geometry

    @property
    def observed(self) -> EngineStats:
        """The counters of this engine."""
        return self._observed

    @property
    def closed(self) -> bool:
        """True after `close()`."""
        return self._gate.closed or self._native.closed

    def store(self, tokens: Any, kv: Any, *, wait: bool = True) -> int:
        """Store the KV of `tokens`; return how many of its tokens are new in the cache.

        0 when all of it is there already, or there is no room. Waits for the copy, after which
        `kv` may change and everybody finds the tokens.

        With `wait=False` it returns at once with the number that will be new: the engine keeps `kv`
        alive, and it must not change before `flush()`. (`async_write: false` makes it wait.)
        """
        with self._inside():
            array = host_array(kv, "kv")
            geometry = self._space.geometry or declared_geometry(array, "kv")
            prompt = self._space.new_prompt(geometry)
            count = append_tokens(prompt, tokens)
            check_source(array, geometry, count)
            self._reap()
            stored = 0
            end = count if self.config.save_unfull_chunk else count - count % prompt.chunk_tokens
            with self._missing("store"):
                namespace = self._space.bind(geometry)
                copy = None
                if self._keeps and end:
                    copy = start_store(self._native, (namespace, geometry), prompt, array, end)
                if copy and (wait or not self.config.async_write):
                    stored = sum(copy.finish())
                elif copy:
                    with self._lock:
                        self._pending.append(copy)
                    stored = sum(copy.piece_tokens)
            return stored

    def flush(self) -> None:
        """Wait for the stores made with `wait=False`, and for what goes to disk and a remote store.

        For the latter a minute at most: what is on its way then still goes on.
        """
        with self._inside():
            self._finish_pending()
            self._native.drain(_FLUSH_TIMEOUT_MS)

    def lookup(self, tokens: Any) -> int:
        """Return how many of the first tokens `retrieve` would find, exact to the token.

        Waits for no network: of a remote store it counts what is known to be there. `prefetch` and
        `retrieve` ask.
        """
        with self._inside():
            prompt = self._prompt(tokens)
            with self._leased(prompt, fetch=False) as hit:
                return self._reach(prompt, hit.prefix_tokens if hit else 0)

    def retrieve(self, tokens: Any, out: Any) -> int:
        """Copy the KV of the longest prefix that is there into `out`; return its tokens, n.

        `out[:, :, :n]` is written, as far as `out` has room; what lies behind is not touched,
        unless a copy fails halfway: then n is what arrived before. Waits for the copy.
        """
        with self._inside():
            array = host_array(out, "out")
            geometry = self._space.geometry or declared_geometry(array, "out")
            prompt = self._space.new_prompt(geometry)
            count = append_tokens(prompt, tokens)
            check_target(array, geometry)
            started = time.monotonic()
            loaded = 0
            with self._missing("retrieve"):
                self._space.bind(geometry)
                with self._leased(prompt, room=array.shape[2]) as hit:
                    if hit:
                        loaded = load(self._native, geometry, hit, array, prompt.chunk_tokens)
            self._observed.record_request(count, loaded, time.monotonic() - started)
            return loaded

    def prefetch(self, tokens: Any) -> int:
        """Bring the longest known prefix of `tokens` into memory; return its tokens.

        Waits for the disk and the remote store. What is in memory already becomes the last to be
        evicted.
        """
        with self._inside(), self._leased(self._prompt(tokens)) as hit:
            return hit.prefix_tokens if hit else 0

    def pin(self, tokens: Any) -> int:
        """Keep the longest known prefix of `tokens` from being evicted; return its tokens.

        A pin is a lease of this process: `unpin`, `close` and the end of the process, however it
        ends, give it back. Pinned twice, it must be unpinned twice.
        """
        with self._inside(), self._missing("pin"):
            prompt = self._prompt(tokens)
            hit = self._lookup(prompt)
            if hit and prompt:
                self._pins.add(prompt, hit)
                return hit.prefix_tokens
        return 0

    def unpin(self, tokens: Any) -> int:
        """Give back the last pin of exactly these tokens; return its tokens, 0 if there is none."""
        with self._inside():
            prompt = self._prompt(tokens)
            return self._pins.remove(prompt) if prompt else 0

    def clear(self, *, all_models: bool = False) -> int:
        """Remove what memory and disk hold of this model, or of all; return the number of chunks.

        Chunks that are pinned, or being copied by any process, stay, and so does what is in a
        remote store, which is also that of others.
        """
        with self._inside(), self._missing("clear"):
            if all_models:
                return self._native.clear()
            if not self._space.find() and self._space.namespace is not None:
                return self._native.clear(self._space.namespace)
        return 0

    def stats(self) -> dict[str, Any]:
        """Return what this engine did and what the segment holds: see `get_cache_stats`."""
        with self._inside():
            return get_cache_stats(self)

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Tell how long computing the KV of some prompt tokens took, for `avg_ttft_reduction`."""
        with self._inside():
            self._observed.record_prefill(tokens, seconds)

    def close(self) -> None:
        """Finish what is under way, give back all leases, leave the segment. May be repeated.

        Waits for other threads that are inside a call.
        """
        if self._native.closed or not self._gate.close():
            return
        try:
            self._finish_pending()
            self._pins.release_all()
        finally:
            self._leave()

    def __enter__(self) -> LMCacheEngine:
        """Return the engine; it closes at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _prompt(self, tokens: Any) -> _native.Prompt | None:
        """Return the keys of valid tokens; None if it is not known what KV they name."""
        with self._missing("lookup"):
            if reason := self._space.find():
                self._tell(
                    "find",
                    logging.INFO,
                    f"KV of {self._space.identity.model} is not found: {reason}",
                )
        prompt = self._space.new_prompt(self._space.geometry)
        append_tokens(prompt, tokens)
        return None if self._space.namespace is None else prompt

    def _lookup(
        self, prompt: _native.Prompt | None, room: int = -1, *, fetch: bool = True
    ) -> _native.Hit | None:
        """Return the lease of a prefix that is worth taking, at most `room` tokens of it."""
        namespace = self._space.namespace
        if not self._keeps or prompt is None or namespace is None:
            return None
        hit = self._native.lookup(namespace, prompt, room)
        started = self._native.fetch(namespace, prompt, hit.prefix_tokens, room) if fetch else None
        if started is not None:
            started.wait(_FETCH_TIMEOUT_MS)
            before, hit = hit, self._native.lookup(namespace, prompt, room)
            before.release()
            started.release()
        if hit.prefix_tokens >= max(1, self.config.min_retrieve_tokens):
            return hit
        hit.release()
        return None

    def _reach(self, prompt: _native.Prompt | None, hit_tokens: int) -> int:
        """Return how far a prefix reaches with what a fetch from disk would bring."""
        namespace = self._space.namespace
        if not self._keeps or prompt is None or namespace is None:
            return hit_tokens
        reached = self._native.reach(namespace, prompt, hit_tokens)
        return reached if reached >= self.config.min_retrieve_tokens else hit_tokens

    @contextmanager
    def _leased(
        self, prompt: _native.Prompt | None, room: int = -1, *, fetch: bool = True
    ) -> Iterator[_native.Hit | None]:
        hit = None
        with self._missing("lookup"):
            hit = self._lookup(prompt, room, fetch=fetch)
        try:
            yield hit
        finally:
            if hit:
                hit.release()

    @contextmanager
    def _missing(self, what: str) -> Iterator[None]:
        """Turn every error into a miss, but those that the caller can correct."""
        try:
            yield
        except _MISTAKES:
            raise
        except LMCacheError as error:
            self._observed.record_failure(error.code)
            self._tell(f"{what} {error.code}", logging.WARNING, f"{what} failed: {error}")

    def _tell(self, occasion: str, level: int, line: str) -> None:
        """Log a line, once per occasion."""
        with self._lock:
            known = occasion in self._told
            self._told.add(occasion)
        if not known:
            _log.log(level, "%s", line)

    def _reap(self) -> None:
        """Let go of arrays whose copy is over."""
        with self._lock:
            over = [copy for copy in self._pending if copy.done()]
            self._pending = [copy for copy in self._pending if copy not in over]
        for copy in over:
            copy.finish()

    def _finish_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
        for copy in pending:
            copy.finish()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Keep the engine open meanwhile. Raises `ClosedError`."""
        with self._gate:
            if self._native.closed:
                self._native.stats()  # raises, and says why
            yield


def _leave(gate: Gate, native: _native.Engine) -> None:
    """Close the engine, at the end of the program behind the threads that are still inside.

    Before Python 3.14 a thread that comes back from native code after that aborts the program.
    """
    gate.close(_LEAVING_TIMEOUT_S)
    native.close()
