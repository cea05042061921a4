# SPDX-License-Identifier: Apache-2.0
"""An S3 server (moto) and an Azure Blob server (azurite) of a test's own, on loopback."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from redis_server import free_port

BUCKET = "kv-chunks"
# What azurite is for everybody; not a secret.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_AZURITE = Path(__file__).parents[2] / "build/azurite/node_modules/azurite/dist/src/blob/main.js"


def azurite_missing() -> str:
    """Return why azurite cannot run here, "" if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    return "" if _AZURITE.exists() else "azurite is not installed: scripts/setup.sh"


class ObjectServer:
    """A process that listens on a port of its own, the same after it was started again."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def command(self, port: int) -> list[str]:
        raise NotImplementedError

    def make_bucket(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, with an empty bucket."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            port = self.port or free_port()
            self.process = subprocess.Popen(
                self.command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._listens(port):
                self.port = port
                self.make_bucket()
                return
            self.stop()
        raise TimeoutError(f"{type(self).__name__} does not start")

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill it, also when it was frozen."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def _listens(self, port: int) -> bool:
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as link:
                if link.connect_ex(("127.0.0.1", port)) == 0:
                    return True
            time.sleep(0.05)
        return False


class MotoServer(ObjectServer):
    """S3 as boto's tests have it: takes any key and secret."""

    def command(self, port: int) -> list[str]:
        # Not through its script, which names the Python it was installed with.
        program = "import sys; from moto.server import main; main(sys.argv[1:])"
        return [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)]

    def make_bucket(self) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str = "") -> str:
        """Return the URL of our bucket."""
        return f"s3://{BUCKET}{prefix}?endpoint={self.endpoint}&allow_http=true&region=us-east-1"


class Azurite(ObjectServer):
    """Microsoft's emulator, which checks signatures."""

    def command(self, port: int) -> list[str]:
        node = shutil.which("node") or "node"
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
        options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        return [node, str(_AZURITE), *where, *options]

    def make_bucket(self) -> None:
        date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
        headers = {"x-ms-date": date, "x-ms-version": version}
        signed = "\n".join(
            ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
        )
        signed += f"\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
        key = base64.b64decode(AZURE_KEY)
        digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        request = urllib.request.Request(
            f"{self.endpoint}/{BUCKET}?restype=container",
            method="PUT",
            headers={**headers, "Content-Length": "0", "Content-Type": ""},
        )
        urllib.request.urlopen(request, timeout=30).close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{AZURE_ACCOUNT}"

    def url(self, prefix: str = "") -> str:
        """Return the URL of our container."""
        return f"az://{BUCKET}{prefix}?endpoint={self.endpoint}&allow_http=true"


def must_run() -> bool:
    """Tell whether a missing server is a failure rather than a skip."""
    return os.environ.get("CI") == "true"
