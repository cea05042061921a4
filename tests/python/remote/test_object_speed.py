# SPDX-License-Identifier: Apache-2.0
"""How fast chunks go to a server on loopback and to a folder; docs/remote.md has what it prints.

    .venv/bin/python -m pytest -s tests/python/remote/test_object_speed.py

moto and azurite are written for tests, in Python and JavaScript: their figures are theirs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from object_servers import AZURE_ACCOUNT, AZURE_KEY, Azurite, MotoServer, azurite_missing, must_run

from lmcache.remote.base import Remote
from lmcache.remote.folder import FolderRemote
from lmcache.remote.object_store import MIB, ObjectStoreRemote

ROUNDS = 3


@pytest.fixture(params=["folder", "moto", "azurite"])
def remote(request, tmp_path):
    """A store of each kind."""
    if request.param == "folder":
        yield FolderRemote(
            f"file://{tmp_path}/kv", user=None, password=None, timeout_s=60, connections=4
        )
        return
    if request.param == "azurite" and azurite_missing():
        (pytest.fail if must_run() else pytest.skip)(azurite_missing())
    server, login = MotoServer(), ("key", "secret")
    if request.param == "azurite":
        server.stop()
        server, login = Azurite(), (AZURE_ACCOUNT, AZURE_KEY)
    made = ObjectStoreRemote(
        server.url(), user=login[0], password=login[1], timeout_s=60, connections=4
    )
    yield made
    made.close()
    server.stop()


def fastest(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize(("size", "count"), [(32 * MIB, 4), (MIB, 32)])
def test_speed(request, remote: Remote, size, count):
    keys = [f"{number:064x}" for number in range(count)]
    values = [random.Random(number).randbytes(size) for number in range(count)]
    buffers = [bytearray(size) for _ in keys]
    pieces = [[memoryview(value)[:256], memoryview(value)[256:]] for value in values]
    views = [memoryview(buffer) for buffer in buffers]
    many = [f"{number:064x}" for number in range(200)]
    put = fastest(lambda: remote.put(keys, pieces, 0))
    get = fastest(lambda: remote.get_into(keys, views))
    ask = fastest(lambda: remote.exists(many))
    assert buffers == values
    megabytes = size * count / 1e6
    print(
        f"\n{request.node.callspec.id}: {count} values of {size // MIB} MiB at once: "
        f"put {megabytes / put:.0f} MB/s, get {megabytes / get:.0f} MB/s; "
        f"asking for 200 keys {ask * 1e3:.0f} ms"
    )
