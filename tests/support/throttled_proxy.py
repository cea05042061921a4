# SPDX-License-Identifier: Apache-2.0
"""Stands between a client and a server of this machine as a slow and distant network would."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

PIECE_BYTES = 16 << 10
MOST_PIECES = 32  # on their way in one direction of a connection


class _Lane:
    """One direction, shared by all connections."""

    def __init__(self) -> None:
        self.bytes_per_s = float("inf")
        self.latency_s = 0.0
        self._free_at = 0.0
        self.passed_bytes = 0

    def due(self, size: int) -> float:
        """Return when so many bytes that come now will be there."""
        self.passed_bytes += size
        self._free_at = max(time.monotonic(), self._free_at) + size / self.bytes_per_s
        return self._free_at + self.latency_s

    def set(self, bytes_per_s: float, latency_s: float) -> None:
        self.bytes_per_s, self.latency_s, self._free_at = bytes_per_s, latency_s, 0.0


class ThrottledProxy:
    """Passes everything on at full speed, until it is told a lower one. Close it."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.to_server, self.to_client = _Lane(), _Lane()
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(30)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def throttle(self, bytes_per_s: float, latency_s: float) -> None:
        """Let all connections together have so much in each direction, and wait for each byte."""
        for lane in (self.to_server, self.to_client):
            lane.set(bytes_per_s, latency_s)

    def release(self) -> None:
        """Be fast from now on."""
        self.throttle(float("inf"), 0.0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._loop.close()

    def __enter__(self) -> ThrottledProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
            await asyncio.gather(
                self._pass_on(reader, back, self.to_server),
                self._pass_on(there, writer, self.to_client),
            )

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, lane: _Lane
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_PIECES)
        arriving = asyncio.create_task(_deliver(under_way, sink))
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(PIECE_BYTES):
                    await under_way.put((lane.due(len(data)), data))
            await under_way.put((0.0, b""))
            await arriving
        finally:
            arriving.cancel()
            sink.close()


async def _deliver(
    under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
) -> None:
    broken = False
    while True:
        due, data = await under_way.get()
        if not data:
            sink.close()
            return
        if not broken and (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        try:
            if not broken:
                sink.write(data)
                await sink.drain()
        except OSError:
            broken = True
