# SPDX-License-Identifier: Apache-2.0
"""A redis-server of a test's own, and waiting for those who connect to it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

INSTALLED = shutil.which("redis-server") is not None
NOT_INSTALLED = "redis-server is not installed"


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for something that other threads or processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connected(engine: Any) -> bool:
    """Tell whether an engine, of Python or native, says that its remote store answers."""
    native = getattr(engine, "_native", engine)
    states = [process["remote_state"] for process in native.status()["processes"]]
    return "connected" in states


class RedisServer:
    """On a free port of loopback and on a socket; nothing of it is on disk for long."""

    def __init__(
        self, *, password: str = "", options: tuple[str, ...] = (), config: str = ""
    ) -> None:
        """Start it; `config` is what a file says that goes before the options."""
        self._folder = Path(tempfile.mkdtemp(prefix="lmcache-redis-"))
        self._config = [str(self._folder / "redis.conf")] if config else []
        for path in self._config:
            Path(path).write_text(config)
        self._password = password
        self._options = options
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        return self._folder / "redis.sock"

    def client(self, database: int = 0) -> redis.Redis:
        """Return a client that is none of ours."""
        return redis.Redis(port=self.port, db=database, password=self._password or None)

    def chunks(self, database: int = 0) -> list[bytes]:
        """Return the keys of all chunks there."""
        return sorted(self.client(database).scan_iter(b"lmcache:1:*"))

    def start(self) -> None:
        """Start it, empty; at the port where it was before."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            port = self.port or free_port()
            where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
            self.process = subprocess.Popen(
                [
                    *("redis-server", *self._config, *where),
                    *("--unixsocket", str(self.socket_path)),
                    *("--save", "", "--appendonly", "no"),
                    *(("--requirepass", self._password) if self._password else ()),
                    *self._options,
                ],
                stdout=subprocess.DEVNULL,
            )
            if self._listens(port):
                self.port = port
                return
            self.stop()
        raise TimeoutError("redis-server does not start")

    def stop(self) -> None:
        """Kill it, also when it was stopped by a signal."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Kill it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listens(self, port: int) -> bool:
        """Wait until it takes connections; False if it ends before, e.g. for another's port."""
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as link:
                if link.connect_ex(("127.0.0.1", port)) == 0:
                    return True
            time.sleep(0.02)
        return False
