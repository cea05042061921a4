# SPDX-License-Identifier: Apache-2.0
"""Loopback alone: a pair of blocking sockets, as far as sockets go without a store behind them."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Iterator
from typing import Any

from lmcache.bench.measuring_process import running

_SEND, _RECEIVE = b"s", b"r"
_SEND_KEPT, _KEEP = b"S", b"R"


def _peer(port: int, size_bytes: int, chunks: int) -> None:
    """Send or receive all chunks, whenever the other side asks; until it is gone."""
    with contextlib.suppress(OSError):
        _serve(port, size_bytes, chunks)


def _serve(port: int, size_bytes: int, chunks: int) -> None:
    memory = bytearray(size_bytes)
    kept = [memoryview(bytearray(b"\1" * size_bytes)) for _ in range(chunks)]
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while order := link.recv(1):
            for part in kept:
                place = part if order in (_SEND_KEPT, _KEEP) else memory
                if order in (_SEND, _SEND_KEPT):
                    link.sendall(place)
                else:
                    _receive(link, place)
            if order in (_RECEIVE, _KEEP):
                link.sendall(b"k")


def _receive(link: socket.socket, memory: Any) -> None:
    got = link.recv_into(memory, len(memory), socket.MSG_WAITALL)
    if got != len(memory):
        raise ConnectionError("the other side of the measurement is gone")


class RawPair:
    """Two processes with one TCP connection over loopback."""

    def __init__(self, link: socket.socket, memory: memoryview, size_bytes: int) -> None:
        self._link = link
        self._parts = [memory[at : at + size_bytes] for at in range(0, len(memory), size_bytes)]

    def send(self, *, keep: bool = False) -> float:
        """Return the seconds until the other side has all chunks.

        `keep`: each in memory of its own, as a store must, instead of one place for all of them,
        which stays in the caches of its CPU.
        """
        started = time.perf_counter()
        self._link.sendall(_KEEP if keep else _RECEIVE)
        for part in self._parts:
            self._link.sendall(part)
        self._link.recv(1)
        return time.perf_counter() - started

    def receive(self, *, kept: bool = False) -> float:
        """Return the seconds until all chunks are here; `kept`: those that send(keep=True) left."""
        started = time.perf_counter()
        self._link.sendall(_SEND_KEPT if kept else _SEND)
        for part in self._parts:
            _receive(self._link, part)
        return time.perf_counter() - started


@contextlib.contextmanager
def raw_pair(memory: memoryview, size_bytes: int) -> Iterator[RawPair]:
    """Yield a pair that moves `memory` in chunks of `size_bytes`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = multiprocessing.get_context("spawn").Process(
            target=_peer,
            args=(server.getsockname()[1], size_bytes, len(memory) // size_bytes),
            daemon=True,
        )
        with running(process):
            server.settimeout(60)
            link, _ = server.accept()
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with link:
                yield RawPair(link, memory, size_bytes)
            process.join(10)
