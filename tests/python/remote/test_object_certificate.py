# SPDX-License-Identifier: Apache-2.0
"""An S3 server with TLS, whose certificate is of an authority of its own."""

from __future__ import annotations

import subprocess

import pytest
from object_servers import BUCKET, MotoServer

from lmcache.errors import UnavailableError
from lmcache.remote.object_store import ObjectStoreRemote


def test_only_a_trusted_certificate_is_taken(tmp_path):
    leaf, authority = tmp_path / "leaf", tmp_path / "authority"
    (tmp_path / "extensions").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE")
    shown = "-subj /CN=127.0.0.1"
    make_authority = f"-x509 -keyout {authority}.key -out {authority}.pem -days 2 {shown}"
    make_request = f"-keyout {leaf}.key -out {leaf}.csr {shown}"
    signed_by = f"-CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2"
    for command in (
        f"req -newkey rsa:2048 -nodes {make_authority}",
        f"req -newkey rsa:2048 -nodes {make_request}",
        f"x509 -req -in {leaf}.csr {signed_by} -extfile {tmp_path}/extensions -out {leaf}.pem",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)

    class Encrypted(MotoServer):
        def command(self, port: int) -> list[str]:
            return [*super().command(port), "-s", "-c", f"{leaf}.pem", "-k", f"{leaf}.key"]

        def make_bucket(self) -> None:
            pass  # that there is none tells that the server was heard

    server = Encrypted()
    try:
        url = f"s3://{BUCKET}?endpoint=https://127.0.0.1:{server.port}"
        for option, told in (
            ("", "certificate is not trusted"),
            (f"&ca={authority}.pem", "no such bucket"),
            ("&verify=no", "no such bucket"),
        ):
            remote = ObjectStoreRemote(
                url + option, user="key", password="secret", timeout_s=10, connections=1
            )
            with pytest.raises(UnavailableError, match=told):
                remote.ping()
            remote.close()
    finally:
        server.stop()
