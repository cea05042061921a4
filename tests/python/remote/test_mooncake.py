# SPDX-License-Identifier: Apache-2.0
"""`MooncakeRemote` against a real master, with other processes that lend the memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import mooncake_server
import pytest
from mooncake_node import Node, key
from mooncake_peer import HEADER_BYTES, content
from mooncake_server import MIB, MooncakeMaster, MooncakePeer

from lmcache.remote.mooncake import PREFIX

REASON = mooncake_server.not_usable()
pytestmark = [
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.multiprocess,
    pytest.mark.timeout(120),
]
SIZES = [300, 4096, 1 << 20, 33 * MIB]


@pytest.fixture(scope="module")
def master() -> Iterator[MooncakeMaster]:
    running = MooncakeMaster()
    yield running
    running.remove()


@pytest.fixture(scope="module")
def lender(master: MooncakeMaster) -> Iterator[MooncakePeer]:
    peer = MooncakePeer(master.url(lent_bytes=256 * MIB))
    yield peer
    peer.kill()


@pytest.fixture(scope="module")
def node(master: MooncakeMaster, lender: MooncakePeer) -> Iterator[Node]:
    one = Node(master.url())
    yield one
    one.remote.close()


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "node" in request.fixturenames:
        request.getfixturevalue("node").remote.clear()


@pytest.fixture
def own_master() -> Iterator[MooncakeMaster]:
    running = MooncakeMaster()
    yield running
    running.remove()


@pytest.mark.parametrize("ttl", [0, 1000])
@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_is_put_is_read_back(node, size_bytes, ttl):
    assert node.put(1, size_bytes, ttl=ttl)
    assert node.remote.exists([key(1)]) == [size_bytes]
    expected = content(1, size_bytes).tobytes()
    assert node.get(1, size_bytes) == expected
    assert node.get(1, size_bytes + 1000) == expected
    assert node.get(1, size_bytes - 1) == b""


@pytest.mark.parametrize("size_bytes", SIZES)
def test_another_process_reads_it_and_writes(node, lender, size_bytes):
    assert node.put(1, size_bytes)
    assert lender.ask("get", key(1), 1, size_bytes) == [size_bytes, True]
    assert lender.ask("put", key(2), 2, size_bytes) == [True]
    assert node.remote.exists([key(2)]) == [size_bytes]
    assert node.get(2, size_bytes) == content(2, size_bytes).tobytes()


def test_what_is_not_there_is_a_miss_beside_what_is(node):
    assert node.put(2, 5000)
    keys = [key(1), key(2), key(3)]
    assert node.remote.exists(keys) == [0, 5000, 0]
    buffers = [node.memory[start : start + 8192].data for start in (0, 8192, 16384)]
    assert node.remote.get_into(keys, buffers) == [0, 5000, 0]
    assert node.memory[8192 : 8192 + 5000].tobytes() == content(2, 5000).tobytes()
    assert node.remote.exists([]) == []
    assert node.remote.get_into([], []) == []
    assert node.remote.put([], [], 0) == []
    assert node.remote.remove([]) == 0


def test_many_at_once(node):
    numbers = list(range(200))
    values = []
    for number in numbers:
        rest = node.memory[number * 1024 : number * 1024 + 500 + number]
        rest[:] = content(number, 500 + number)
        values.append([memoryview(bytes([number]) * HEADER_BYTES), rest.data.toreadonly()])
    keys = [key(number) for number in numbers]
    assert node.remote.put(keys, values, 0) == [True] * 200
    sizes = [HEADER_BYTES + 500 + number for number in numbers]
    asked = [name for pair in zip(keys, map(key, range(1000, 1200)), strict=True) for name in pair]
    assert node.remote.exists(asked) == [size for pair in sizes for size in (pair, 0)]
    buffers = [node.memory[MIB + i * 1024 : MIB + (i + 1) * 1024].data for i in numbers]
    assert node.remote.get_into(keys, buffers) == sizes
    for number, buffer in zip(numbers, buffers, strict=True):
        expected = bytes([number]) * HEADER_BYTES + content(number, 500 + number).tobytes()
        assert bytes(buffer[: sizes[number]]) == expected


def test_a_key_twice_in_a_batch_fills_both_buffers(node):
    assert node.put(1, 5000)
    buffers = [node.memory[:5000].data, node.memory[8192 : 8192 + 5000].data]
    assert node.remote.get_into([key(1)] * 2, buffers) == [5000, 5000]
    assert bytes(buffers[0]) == bytes(buffers[1]) == content(1, 5000).tobytes()


@pytest.mark.parametrize(("ttl_before", "ttl_after"), [(0, 0), (0, 1000), (1000, 0), (1000, 1000)])
def test_a_put_replaces_what_is_there_also_while_it_is_leased(node, ttl_before, ttl_after):
    assert node.put(1, 5000, seed=7, ttl=ttl_before)
    assert node.get(1, 5000) == content(7, 5000).tobytes()  # takes a lease
    assert node.put(1, 6000, seed=8, ttl=ttl_after)
    assert node.remote.exists([key(1)]) == [6000]
    assert node.get(1, 8192) == content(8, 6000).tobytes()
    assert node.remote.describe().chunks == 1


def test_a_chunk_past_its_ttl_is_a_miss_and_removed(node, lender):
    assert node.put(1, 5000, ttl=2)
    assert node.put(2, 5000, ttl=2)
    assert node.put(3, 5000, ttl=1000)
    assert node.get(3, 5000)
    assert lender.ask("get", key(3), 3, 5000) == [5000, True]
    time.sleep(2.1)
    assert node.get(1, 5000) == b""
    assert node.remote.exists([key(1), key(2), key(3)]) == [0, 0, 5000]
    assert node.remote.describe().chunks == 1


def test_remove_counts_what_was_there(node):
    for number in range(3):
        assert node.put(number, ttl=1000 * (number % 2))
    assert node.remote.exists([key(1)]) == [4096]  # takes a lease
    assert node.remote.remove([key(0), key(1), key(9), key(0)]) == 2
    assert node.remote.exists([key(0), key(1), key(2)]) == [0, 0, 4096]


def test_clear_leaves_what_is_not_ours(node):
    theirs = [f"lmcache:{number}:{key(1)}" for number in (0, 11)] + ["x" + PREFIX + key(1)]
    start = int(node.memory.ctypes.data)
    node.remote.ping()
    assert node.remote._client.call(
        *("batch_put_from_multi_buffers", theirs, [[start]] * 3, [[100]] * 3)
    ) == [0, 0, 0]
    for number in range(5):
        assert node.put(number)
    use = node.remote.describe()
    assert (use.chunks, use.role) == (5, "master")
    assert use.used_bytes >= 5 * 4096
    assert use.limit_bytes == 256 * MIB
    assert node.remote.clear() == 5
    assert node.remote.exists([key(number) for number in range(5)]) == [0] * 5
    assert node.remote._client.call("batch_is_exist", theirs) == [1, 1, 1]
    node.remote._client.call("batch_remove", theirs, True)
    assert node.remote.describe().chunks == 0


def test_describe_without_the_page_of_figures(node, master):
    port = mooncake_server.free_port()
    blind = Node(master.url().replace(f"port={master.metrics_port}", f"port={port}"))
    try:
        use = blind.remote.describe()
    finally:
        blind.remote.close()
    assert "metrics_port" in use.server
    assert use.chunks == 0


def test_threads_share_one_remote(node):
    size_bytes = 256 * 1024

    def work(thread: int) -> None:
        start = thread * 2 * MIB
        back = node.memory[start + MIB : start + MIB + size_bytes]
        for turn in range(5):
            number = thread * 100 + turn
            record = content(number, size_bytes)
            rest = node.memory[start : start + size_bytes - HEADER_BYTES]
            rest[:] = record[HEADER_BYTES:]
            value = [memoryview(record[:HEADER_BYTES].tobytes()), rest.data.toreadonly()]
            assert node.remote.put([key(number)], [value], 1000 * (turn % 2)) == [True]
            assert node.remote.exists([key(number), key(99999)]) == [size_bytes, 0]
            assert node.remote.get_into([key(number)], [back.data]) == [size_bytes]
            assert back.tobytes() == record.tobytes()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_no_room_and_nobody_who_lends(own_master):
    alone = Node(own_master.url())
    try:
        assert alone.put(1) is False
        lender = MooncakePeer(own_master.url(lent_bytes=16 * MIB))
        try:
            assert alone.put(1)
            assert alone.put(2, 20 * MIB) is False
            assert alone.remote.exists([key(1), key(2)]) == [4096, 0]
        finally:
            lender.kill()
    finally:
        alone.remote.close()


def test_it_lends_memory_itself(own_master):
    alone = Node(own_master.url(lent_bytes=32 * MIB))
    try:
        assert alone.put(1, 5 * MIB)
        assert alone.get(1, 5 * MIB) == content(1, 5 * MIB).tobytes()
    finally:
        alone.remote.close()
