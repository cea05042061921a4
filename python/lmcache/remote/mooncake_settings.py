# SPDX-License-Identifier: Apache-2.0
"""Where a Mooncake store is and how this process takes part in it: the URL, then the JSON file."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lmcache.errors import InvalidArgumentError

SCHEME = "mooncakestore"
DEFAULT_PORT = 50051
# Set by those who use Mooncake with other engines, too; only what the URL leaves open is taken.
CONFIG_PATH = "MOONCAKE_CONFIG_PATH"

# Key of the query: key of the JSON file. `device_name` is taken in the query as well.
_OPTIONS = {
    "local_hostname": "local_hostname",
    "metadata_server": "metadata_server",
    "protocol": "protocol",
    "device": "device_name",
    "global_segment_size": "global_segment_size",
    "local_buffer_size": "local_buffer_size",
    "metrics_port": "metrics_port",
}
_ALIASES = {"device_name": "device"}
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# What Mooncake takes as the size of a region, where it is not 0.
_LEAST_BYTES = 16 << 20


@dataclass(frozen=True)
class MooncakeSettings:
    """What `MooncakeDistributedStore.setup()` is told, and the port of the master's metrics."""

    master: str
    local_hostname: str = ""  # "": the address from which this machine reaches the master
    metadata_server: str = "P2PHANDSHAKE"  # needs no server of its own
    protocol: str = "tcp"
    device: str = ""
    # Lent to the store by each process: pages that hold nothing take no memory with tcp.
    global_segment_size: int = 1 << 30
    # Staging of Mooncake's own; transfers of ours do not pass it.
    local_buffer_size: int = 16 << 20
    metrics_port: int = 9003

    @property
    def master_address(self) -> tuple[str, int] | None:
        """Host and port of the master, None where others say which one it is (`etcd://...`)."""
        if "://" in self.master:
            return None
        parts = urlsplit(f"//{self.master}")
        return parts.hostname or "", parts.port or DEFAULT_PORT

    def hostname(self) -> str:
        """Return the name or address at which other nodes reach this process."""
        address = self.master_address
        if self.local_hostname or address is None:
            return self.local_hostname or socket.gethostname()
        family, kind, *_, target = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # sends nothing; the kernel chooses the interface
            return str(probe.getsockname()[0])


def mooncake_settings(url: str, environment: Mapping[str, str] = os.environ) -> MooncakeSettings:
    """Read `mooncakestore://host:port/?key=value&...`; raises `InvalidArgumentError`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{SCHEME} URL: {error}") from error
    if parts.scheme != SCHEME:
        raise InvalidArgumentError(f"not a {SCHEME}:// URL: {parts.scheme}://")
    if parts.path not in ("", "/") or parts.fragment:
        raise InvalidArgumentError(f"{SCHEME}://host:port/ takes no path: {parts.path}")
    if "@" in parts.netloc:
        raise InvalidArgumentError(f"{SCHEME}:// takes no user or password: Mooncake has no login")
    query = {
        _ALIASES.get(key, key): value
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    }
    unknown = sorted(set(query) - set(_OPTIONS))
    if unknown:
        raise InvalidArgumentError(
            f"{SCHEME}:// does not know {', '.join(unknown)}; it knows {', '.join(_OPTIONS)}"
        )
    written = _from_file(environment.get(CONFIG_PATH, ""))
    master = written.pop("master_server_address", "")
    if host:
        literal = f"[{host}]" if ":" in host else host
        master = f"{literal}:{port or DEFAULT_PORT}"
    if not master:
        raise InvalidArgumentError(
            f"no Mooncake master: name it in {SCHEME}://host:port/ or as master_server_address "
            f"in the file that {CONFIG_PATH} names"
        )
    return _checked(str(master), {**written, **query})


def _from_file(path: str) -> dict[str, Any]:
    """Return what the file says, by our names; what other engines keep there is theirs."""
    if not path:
        return {}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{CONFIG_PATH}={path}: {error}") from error
    names = {theirs: ours for ours, theirs in _OPTIONS.items()}
    names["master_server_address"] = "master_server_address"
    return {names[key]: value for key, value in content.items() if key in names and value != ""}


def _checked(master: str, given: Mapping[str, Any]) -> MooncakeSettings:
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key.endswith("_size"):
            values[key] = _size_bytes(key, value)
        elif key == "metrics_port":
            if not re.fullmatch(r"\d{1,5}", str(value)) or not 0 < int(value) < 65536:
                raise InvalidArgumentError(f"{key}={value}: not a port")
            values[key] = int(value)
        else:
            values[key] = str(value or "")
    protocol = values.get("protocol", "tcp").lower() or "tcp"
    if protocol not in ("tcp", "rdma"):
        raise InvalidArgumentError(f"protocol={protocol}: it is tcp or rdma")
    values["protocol"] = protocol
    if not values.get("metadata_server", "P2PHANDSHAKE"):
        del values["metadata_server"]
    return MooncakeSettings(master, **values)


def _size_bytes(key: str, value: object) -> int:
    """Read a number of bytes; "512mb" and "1.5 GB" are taken as Mooncake takes them."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", str(value).strip().lower())
    if match is None:
        raise InvalidArgumentError(f"{key}={value}: not a number of bytes, as 1073741824 or 1gb")
    size = int(float(match[1]) * _UNITS[match[2]])
    if 0 < size < _LEAST_BYTES:
        raise InvalidArgumentError(f"{key}={value}: Mooncake takes 0 or 16 MiB and more")
    return size
