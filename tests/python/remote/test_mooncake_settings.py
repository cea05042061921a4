# SPDX-License-Identifier: Apache-2.0
"""What a `mooncakestore://` URL and the file of Mooncake's users say. Needs no Mooncake."""

from __future__ import annotations

import json

import pytest

from lmcache.errors import InvalidArgumentError, UnavailableError
from lmcache.remote.mooncake import MooncakeRemote
from lmcache.remote.mooncake_settings import MooncakeSettings, mooncake_settings


def test_a_master_alone_gets_the_defaults():
    settings = mooncake_settings("mooncakestore://master.example:1234", {})
    assert settings == MooncakeSettings("master.example:1234")
    assert settings.master_address == ("master.example", 1234)
    assert (settings.protocol, settings.metadata_server) == ("tcp", "P2PHANDSHAKE")
    assert mooncake_settings("mooncakestore://m/", {}).master == "m:50051"
    assert mooncake_settings("mooncakestore://[::1]:7/", {}).master_address == ("::1", 7)


def test_the_query_says_the_rest():
    settings = mooncake_settings(
        "mooncakestore://m:1/?device=mlx5_0&protocol=RDMA&metadata_server=http://m:8080/metadata"
        "&global_segment_size=0&local_buffer_size=1.5gb&local_hostname=node7&metrics_port=9",
        {},
    )
    assert settings == MooncakeSettings(
        "m:1", "node7", "http://m:8080/metadata", "rdma", "mlx5_0", 0, 3 << 29, 9
    )
    assert settings.hostname() == "node7"
    assert mooncake_settings("mooncakestore://m:1/?device=", {}).device == ""
    assert mooncake_settings("mooncakestore://m:1/?device_name=a", {}).device == "a"


def test_the_hostname_is_where_the_master_is_reached_from():
    assert mooncake_settings("mooncakestore://127.0.0.1:1", {}).hostname() == "127.0.0.1"


def test_the_file_says_what_the_url_does_not(tmp_path):
    path = tmp_path / "mooncake.json"
    path.write_text(
        json.dumps(
            {
                "local_hostname": "node1",
                "metadata_server": "http://m/metadata",
                "protocol": "rdma",
                "device_name": "mlx5_1",
                "local_buffer_size": 1 << 30,
                "master_server_address": "file-master:5",
                "global_segment_size": "3gb",
                "transfer_timeout": 1,
                "enable_ssd_offload": False,
            }
        )
    )
    environment = {"MOONCAKE_CONFIG_PATH": str(path)}
    assert mooncake_settings("mooncakestore://", environment) == MooncakeSettings(
        *("file-master:5", "node1", "http://m/metadata", "rdma", "mlx5_1"), 3 << 30, 1 << 30
    )
    settings = mooncake_settings("mooncakestore://m:1/?device=mlx5_2", environment)
    assert (settings.master, settings.device) == ("m:1", "mlx5_2")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mooncakestore://m/?devise=a&x=1", "devise, x; it knows local_hostname"),
        ("mooncakestore://", "no Mooncake master"),
        ("mooncakestore://m:99999", "URL"),
        ("mooncakestore://m/path", "no path"),
        ("mooncakestore://me:secret@m/", "no login"),
        ("redis://m/", "not a mooncakestore"),
        ("mooncakestore://m/?protocol=udp", "tcp or rdma"),
        ("mooncakestore://m/?global_segment_size=1k", "16 MiB"),
        ("mooncakestore://m/?local_buffer_size=much", "number of bytes"),
        ("mooncakestore://m/?metrics_port=0", "not a port"),
    ],
)
def test_mistakes_are_named(url, message):
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        mooncake_settings(url, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path, text):
    path = tmp_path / "mooncake.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"mooncake\.json"):
        mooncake_settings("mooncakestore://m/", {"MOONCAKE_CONFIG_PATH": str(path)})


def test_a_login_is_refused():
    with pytest.raises(InvalidArgumentError, match="no login"):
        MooncakeRemote(
            "mooncakestore://m/", user="me", password="secret", timeout_s=1, connections=1
        )


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mooncake.store", None)
    remote = MooncakeRemote(
        "mooncakestore://127.0.0.1:1/", user=None, password=None, timeout_s=1, connections=1
    )
    with pytest.raises(UnavailableError, match="install mooncake-transfer-engine"):
        remote.ping()
