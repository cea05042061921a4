# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of a test's own, and a server and client that it vouches for."""

from __future__ import annotations

import subprocess
from pathlib import Path

DAYS = 2


class TlsFiles:
    """Paths of the authority's certificate, that of server and client, and its key."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self.ca, self.cert, self.key = (str(folder / file) for file in ("ca", "cert", "key"))
        ca_key, request, extra = (str(folder / file) for file in ("ca.key", "request", "extra"))
        Path(extra).write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        days = ("-days", str(DAYS))
        _openssl(
            "req", "-x509", *new, "-keyout", ca_key, "-out", self.ca, "-subj", f"/CN={name}", *days
        )
        _openssl("req", *new, "-keyout", self.key, "-out", request, "-subj", "/CN=server")
        signer = ("-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extra)
        _openssl("x509", "-req", "-in", request, "-out", self.cert, *signer, *days)

    @property
    def query(self) -> str:
        """What a URL says of them."""
        return f"ca={self.ca}&cert={self.cert}&key={self.key}"


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
