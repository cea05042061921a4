# SPDX-License-Identifier: Apache-2.0
"""Mooncake's client in this process: loading it, its calls with an end, memory it may touch.

What its version 0.3.13 does, measured, is the reason for most of this:

* `setup()` and `close()` hold Python's lock. Against a master that is stopped they would hold all
  threads of the process, so a master is asked for a sign of life first, by a socket of ours.
* A request to a stopped master ends after `MC_RPC_TIMEOUT_MS`, which is read by `setup()`. One to
  a dead master takes 4.3 s whatever is set, unless the sign of life is asked for first.
* Between two nodes over TCP, transfers at the same time are slower together than one after the
  other (2.0 GB/s by one thread, 0.5 by eight): a `Lane` lets one thread through.
"""

from __future__ import annotations

import importlib
import math
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lmcache.errors import (
    InternalError,
    InvalidArgumentError,
    LMCacheError,
    TimedOutError,
    UnavailableError,
)
from lmcache.remote.mooncake_settings import MooncakeSettings

_NEEDED = (
    *("setup", "close", "health_check", "register_buffer", "unregister_buffer"),
    *("batch_is_exist", "batch_get_replica_desc", "get_size", "get_into_ranges"),
    *("batch_get_into", "batch_get_into_multi_buffers", "batch_put_from_multi_buffers"),
    *("batch_remove", "remove_by_regex"),
)
# Its codes (types.h): -900 and below are of requests to the master.
RPC_FAIL, RPC_TIMEOUT = -900, -901
# A request of its RPC (struct_pack, coro_rpc) for a function that no master has: magic, version,
# two kinds, sequence number, function, two lengths. A live one answers that there is none.
_SIGN_OF_LIFE = struct.pack("<4B4I", 21, 0, 0, 0, 1, 0xFFFFFFF0, 0, 0)

# Clients whose master did not answer when they were closed. Closing them would hold Python's lock
# until it does; they keep the memory that they lent, and end with the process.
_LEFT_OPEN: list[Any] = []
_SETTING_UP = threading.Lock()


def load_store(timeout_s: float) -> Any:
    """Import Mooncake; return its class. Raises `UnavailableError`."""
    # For the whole process, since Mooncake reads them again and again; what the user sets stays.
    # Its log is on stderr, and ERROR is the quietest that it knows.
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("MC_LOG_LEVEL", "ERROR")
    # When a transfer ends that a node does not go on with, or does not begin; 30 s by itself.
    for name in ("MC_TCP_PROGRESS_TIMEOUT_SEC", "MC_TCP_STATUS_TIMEOUT_SEC"):
        os.environ.setdefault(name, str(max(1, math.ceil(timeout_s))))
    try:
        store = importlib.import_module("mooncake.store").MooncakeDistributedStore
    except ImportError as error:
        raise UnavailableError(
            f"Mooncake's client cannot be loaded ({error}); install mooncake-transfer-engine or "
            "mooncake-transfer-engine-non-cuda, 0.3.13 or newer, and the system's libibverbs1, "
            "libnuma1 and libcurl4"
        ) from error
    lacking = [name for name in _NEEDED if not hasattr(store, name)]
    if lacking:
        raise UnavailableError(
            f"this version of Mooncake's client lacks {', '.join(lacking)}; 0.3.13 has them"
        )
    return store


class Lane:
    """Registered memory for small parts of a batch, for one thread at a time. Thread-safe."""

    SLOT_BYTES = 512
    SLOTS = 1024

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self.memory = np.frombuffer(mmap.mmap(-1, self.SLOT_BYTES * self.SLOTS), dtype=np.uint8)

    def slot(self, index: int) -> tuple[int, memoryview]:
        """Return the address and the bytes of a slot; for the thread that is in `taken()`."""
        start = index * self.SLOT_BYTES
        part = self.memory[start : start + self.SLOT_BYTES]
        return int(part.ctypes.data), part.data

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for one's turn."""
        if not self._lock.acquire(timeout=self._timeout_s):
            raise TimedOutError("other transfers to Mooncake take too long")
        try:
            yield
        finally:
            self._lock.release()


class MooncakeClient:
    """One client of the store, which connects with the first call. Thread-safe."""

    def __init__(self, settings: MooncakeSettings, timeout_s: float) -> None:
        self.settings = settings
        self._timeout_s = timeout_s
        self._connecting = threading.Lock()  # guards _store, _registered
        self._store: Any = None
        self._registered: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = {}
        self._suspect = False  # a call failed since the master's last sign of life

    def register(self, memory: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Let Mooncake read and write this memory, now if it is connected, else before it is."""
        start = int(memory.ctypes.data)
        with self._connecting:
            if memory.nbytes == 0 or self.holds(start, memory.nbytes):
                return
            if self._store is not None:
                self._register(self._store, start, memory.nbytes)
            self._registered[start] = memory

    def holds(self, start: int, size_bytes: int) -> bool:
        """Tell whether all of it is registered."""
        return any(
            known <= start and start + size_bytes <= known + memory.nbytes
            for known, memory in list(self._registered.items())
        )

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of the store; raises where the master does not answer."""
        store = self._connected()
        if self._suspect or store.health_check() != 0:
            self._suspect = True
            self._sign_of_life()
        result = getattr(store, name)(*arguments)
        code = _lowest(result)
        if code <= RPC_FAIL:
            self._suspect = True
            raise _failure(name, code)
        self._suspect = False
        return result

    def close(self) -> None:
        """Let go of all memory, and of the store where the master is there to be told."""
        with self._connecting:
            store, self._store = self._store, None
            for start in self._registered:
                if store is not None:
                    store.unregister_buffer(start)
            self._registered.clear()
        if store is None:
            return
        try:
            self._sign_of_life()
        except LMCacheError:
            _LEFT_OPEN.append(store)
        else:
            store.close()

    def _connected(self) -> Any:
        if self._store is not None:
            return self._store
        if not self._connecting.acquire(timeout=self._timeout_s):
            raise TimedOutError("another thread is still connecting to Mooncake")
        try:
            if self._store is None:
                self._store = self._connect()
            return self._store
        finally:
            self._connecting.release()

    def _connect(self) -> Any:
        store = load_store(self._timeout_s)()
        self._sign_of_life()
        settings = self.settings
        try:
            hostname = settings.hostname()
        except OSError as error:
            raise UnavailableError(f"Mooncake master {settings.master}: {error}") from error
        with _SETTING_UP, _environment(self._timeout_s):
            code = store.setup(
                *(hostname, settings.metadata_server, settings.global_segment_size),
                *(settings.local_buffer_size, settings.protocol, settings.device),
                settings.master,
            )
        if code != 0:
            raise UnavailableError(
                f"Mooncake's client cannot be set up (code {code}): master {settings.master}, "
                f"metadata {settings.metadata_server}, {settings.protocol} {settings.device}"
            )
        for start, memory in self._registered.items():
            self._register(store, start, memory.nbytes)
        return store

    def _register(self, store: Any, start: int, size_bytes: int) -> None:
        code = store.register_buffer(start, size_bytes)
        if code != 0:
            raise InvalidArgumentError(
                f"Mooncake does not register {size_bytes} bytes of memory (code {code})"
            )

    def _sign_of_life(self) -> None:
        """Return when the master has answered anything; raises if it does not."""
        address = self.settings.master_address
        if address is None or os.environ.get("MC_RPC_PROTOCOL") == "rdma":
            return  # who is the master is known to etcd only, or it is not spoken to by TCP
        try:
            with socket.create_connection(address, self._timeout_s) as link:
                link.settimeout(self._timeout_s)
                link.sendall(_SIGN_OF_LIFE)
                if not link.recv(1):
                    raise ConnectionError("it hung up")
        except TimeoutError as error:
            raise TimedOutError(
                f"Mooncake master {self.settings.master} does not answer"
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"Mooncake master {self.settings.master}: {error}", os_error=error.errno or 0
            ) from error


def address_of(buffer: memoryview) -> int:
    """Return where the bytes of a buffer are."""
    return int(np.frombuffer(buffer, dtype=np.uint8).ctypes.data) if buffer.nbytes else 0


def batches(keys: Sequence[str], limit: int) -> Iterator[slice]:
    """Cut into parts of `limit` keys at most, in none of which a key is twice."""
    start = 0
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen or index - start == limit:
            yield slice(start, index)
            start = index
            seen.clear()
        seen.add(key)
    if start < len(keys):
        yield slice(start, len(keys))


def checked(codes: Sequence[int], expected: int, name: str) -> Sequence[int]:
    """Return the codes if there is one for each key."""
    if len(codes) != expected:
        raise InternalError(f"Mooncake: {name} of {expected} keys returned {len(codes)} results")
    return codes


def _lowest(result: Any) -> int:
    """Return the lowest code of a result: a number, or lists of them."""
    if isinstance(result, list):
        return min(map(_lowest, result), default=0)
    return result if isinstance(result, int) else 0


def _failure(name: str, code: int) -> LMCacheError:
    kind: Callable[[str], LMCacheError] = TimedOutError if code == RPC_TIMEOUT else UnavailableError
    return kind(f"Mooncake: {name} failed, the master does not answer (code {code})")


@contextmanager
def _environment(timeout_s: float) -> Iterator[None]:
    """Set what setup() reads from the environment; what the user has set stays."""
    timeout_ms = str(max(1, round(timeout_s * 1000)))
    ours = {
        "MC_RPC_TIMEOUT_MS": timeout_ms,
        "MC_RPC_CONNECT_TIMEOUT_MS": timeout_ms,
        "MC_STORE_CLIENT_SETUP_RETRIES": "3",  # each with another port
    }
    added = [name for name in ours if name not in os.environ]
    for name in added:
        os.environ[name] = ours[name]
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
