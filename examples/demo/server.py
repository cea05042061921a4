# SPDX-License-Identifier: Apache-2.0
"""A Redis of the demo's own, on a free port of this machine."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time

from lmcache import _native
from lmcache.errors import LMCacheError

_START_S = 20.0


class RedisServer:
    """Runs from entering to leaving; `url` is empty where no redis-server is installed."""

    url = ""

    def __enter__(self) -> RedisServer:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()
        program = shutil.which("redis-server")
        if program:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            self._process = subprocess.Popen(
                [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""],
                cwd=self._folder.name,
                stdout=subprocess.DEVNULL,
            )
            self.url = f"redis://127.0.0.1:{port}"
            self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._answers() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(LMCacheError):
            self._open().ping()
            return True
        return False

    def _open(self) -> _native.RemoteStore:
        return _native.RemoteStore.open(self.url, lambda *_: None, connections=1)

    def clear(self) -> None:
        """Remove all chunks."""
        if self.url:
            self._open().clear()

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._folder.cleanup()
