# SPDX-License-Identifier: Apache-2.0
"""A Mooncake master of a test's own, and other processes that lend memory to it and use it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from redis_server import free_port

MIB = 1 << 20


def not_usable() -> str:
    """Return why Mooncake cannot be used here, "" if it can: its import may lack a library."""
    if os.environ.get("CI") == "true":
        return ""  # what is missing is a failure there, not a skip
    if importlib.util.find_spec("mooncake") is None:
        return "mooncake-transfer-engine is not installed: no wheel for this platform"
    tried = subprocess.run(
        [sys.executable, "-c", "import mooncake.store"], capture_output=True, text=True, timeout=60
    )
    return "" if tried.returncode == 0 else f"mooncake: {tried.stderr.strip().splitlines()[-1]}"


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop all threads of a process; sending the signal alone lets some go on for a while."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


class MooncakeMaster:
    """On free ports of loopback; keeps nothing when it is killed."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("mooncake")
        assert package is not None
        assert package.origin is not None
        self._program = Path(package.origin).parent / "mooncake_master"
        self._folder = tempfile.TemporaryDirectory(prefix="lmcache-mooncake-")
        self.port = self.metrics_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, *, lent_bytes: int = 0) -> str:
        """Return the URL for a process that lends so much."""
        return (
            f"mooncakestore://127.0.0.1:{self.port}/?local_hostname=127.0.0.1"
            f"&global_segment_size={lent_bytes}&metrics_port={self.metrics_port}"
        )

    def start(self) -> None:
        """Start it, empty; at the ports where it was before."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ports = (self.port or free_port(), self.metrics_port or free_port())
            self.process = subprocess.Popen(
                [
                    *(str(self._program), f"--rpc_port={ports[0]}", f"--metrics_port={ports[1]}"),
                    *("--rpc_address=127.0.0.1", "--metrics_host=127.0.0.1"),
                    *("--default_kv_lease_ttl=1000", "--enable_metric_reporting=false"),
                ],
                env={**os.environ, "GLOG_minloglevel": "3"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
            )
            if all(self._listens(port) for port in ports):
                self.port, self.metrics_port = ports
                return
            self.kill()
            time.sleep(0.2)
        raise TimeoutError("mooncake_master does not start")

    def pause(self) -> None:
        """Stop it: it takes connections still, and answers nothing."""
        assert self.process is not None
        stop(self.process)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, also when it is stopped."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def remove(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        self._folder.cleanup()

    def _listens(self, port: int) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as link:
                if link.connect_ex(("127.0.0.1", port)) == 0:
                    return True
            time.sleep(0.02)
        return False


class MooncakePeer:
    """Another process with a `MooncakeRemote`: lends memory, writes and reads what it is told."""

    def __init__(self, url: str, *, timeout_s: float = 20) -> None:
        script = Path(__file__).with_name("mooncake_peer.py")
        # What a remote in this process has set for Mooncake is not what the user has set there.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MC_")}
        self._process = subprocess.Popen(
            [sys.executable, str(script), url, str(timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.ask("ping")

    def ask(self, command: str, *arguments: Any, timeout_s: float = 60) -> Any:
        """Return what it answers; it is killed, and the test fails, if it does not in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        assert line, f"the other process ended at {command}"
        return json.loads(line)

    def pause(self) -> None:
        """Stop it by a signal."""
        stop(self._process)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word to the master."""
        self._process.kill()
        self._process.communicate(timeout=30)
