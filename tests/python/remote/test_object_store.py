# SPDX-License-Identifier: Apache-2.0
"""Chunks in buckets of real servers: bytes, misses, expiry, servers that die or hang, secrets."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from object_servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    BUCKET,
    Azurite,
    MotoServer,
    ObjectServer,
    azurite_missing,
    must_run,
)

from lmcache.errors import InvalidArgumentError, TimedOutError, UnavailableError
from lmcache.remote import object_store
from lmcache.remote.object_store import EXPIRES, MIB, ObjectStoreRemote

KEY = "ab" * 32
SECRET = "hush-hush-secret"


class Store:
    """A server, and clients of it."""

    def __init__(self, server: ObjectServer) -> None:
        self.server = server
        self.login = (AZURE_ACCOUNT, AZURE_KEY)
        if isinstance(server, MotoServer):
            self.login = ("AKIAEXAMPLE", SECRET)

    def open(self, prefix: str = "", *, timeout_s: float = 30) -> ObjectStoreRemote:
        user, password = self.login
        return ObjectStoreRemote(
            self.server.url(prefix),
            user=user,
            password=password,
            timeout_s=timeout_s,
            connections=4,
        )


@pytest.fixture(scope="module", params=["moto", "azurite"])
def store(request):
    """A server, which tests leave running."""
    if request.param == "azurite" and azurite_missing():
        (pytest.fail if must_run() else pytest.skip)(azurite_missing())
    server = MotoServer() if request.param == "moto" else Azurite()
    yield Store(server)
    server.stop()


@pytest.fixture
def remote(store):
    remote = store.open("/team/a")
    yield remote
    remote.clear()
    remote.close()


@pytest.fixture
def mortal():
    """An S3 server of the test's own, to be killed."""
    server = MotoServer()
    yield Store(server)
    server.stop()


def pieces(data: bytes) -> list[memoryview]:
    return [memoryview(data)[:256], memoryview(data)[256:]]


def keys_of(count: int) -> list[str]:
    return [f"{number * 2654435761 % 2**32:08x}" * 8 for number in range(count)]


@pytest.mark.parametrize("size", [300, MIB + 1, 8 * MIB, 8 * MIB + 1, 17 * MIB, 33 * MIB])
def test_round_trip(remote, size):
    data = random.Random(size).randbytes(size)
    assert remote.put([KEY], [pieces(data)], 0) == [True]
    assert remote.exists([KEY, "cd" * 32]) == [size, 0]
    buffer = bytearray(b"\xee" * (size + 9))
    assert remote.get_into([KEY], [memoryview(buffer)]) == [size]
    assert buffer[:size] == data
    assert buffer[size:] == b"\xee" * 9
    exact = bytearray(size)
    assert remote.get_into([KEY], [memoryview(exact)]) == [size]
    assert exact == data
    short = bytearray(size - 1)
    assert remote.get_into([KEY], [memoryview(short)]) == [0]
    assert short == bytes(size - 1)


def test_absent_empty_and_no_room_in_the_buffer(remote):
    remote.put([KEY], [[memoryview(b"")]], 0)
    buffers = [memoryview(bytearray(10)), memoryview(bytearray(10)), memoryview(bytearray(0))]
    assert remote.get_into([KEY, "cd" * 32, KEY], buffers) == [0, 0, 0]
    assert remote.exists([]) == []
    assert remote.get_into([], []) == []
    assert remote.put([], [], 0) == []
    assert remote.remove([]) == 0


def test_many_values_at_once(remote):
    keys, maker = keys_of(200), random.Random(5)
    values = [maker.randbytes(300 + number) for number in range(200)]
    assert remote.put(keys[::2], [pieces(value) for value in values[::2]], 0) == [True] * 100
    expected = [0 if at % 2 else 300 + at for at in range(200)]
    assert remote.exists(keys) == expected
    buffers = [bytearray(600) for _ in keys]
    assert remote.get_into(keys, [memoryview(buffer) for buffer in buffers]) == expected
    for at in range(0, 200, 2):
        assert buffers[at][: 300 + at] == values[at]
    assert remote.describe().chunks == 100
    assert remote.describe().used_bytes == sum(expected)
    assert remote.remove(keys[:10]) == 5
    assert remote.remove(keys[:10]) == 0
    assert remote.clear() == 95
    assert remote.exists(keys) == [0] * 200


def test_clear_and_describe_touch_only_what_is_ours(store, remote):
    beside = store.open("/team/ab")
    remote.put([KEY], [pieces(bytes(300))], 0)
    beside.put([KEY], [pieces(bytes(400))], 0)
    foreign = [
        f"team/a/lmcache/1/ab/{KEY}x",
        "team/a/lmcache/1/notes",
        f"team/a/lmcache/2/ab/{KEY}",
    ]
    for name in foreign:
        obstore.put(remote._store, name, b"not ours")
    assert remote.describe().chunks == 1
    assert remote.clear() == 1
    assert beside.exists([KEY]) == [400]
    for name in foreign:
        assert obstore.head(remote._store, name)["size"] == 8
    obstore.delete(remote._store, foreign)
    assert beside.clear() == 1
    beside.close()


def test_more_than_a_page(remote, monkeypatch):
    monkeypatch.setattr(object_store, "LIST_PAGE", 10)
    keys = keys_of(60)
    remote.put(keys, [pieces(bytes(300))] * 60, 0)
    assert remote.describe().chunks == 60
    assert remote.clear() == 60
    assert remote.describe().chunks == 0


def test_threads_read_and_write_at_once(remote):
    def work(number: int) -> None:
        key, data = f"{number:064x}", random.Random(number).randbytes(200_000 + number)
        for _ in range(5):
            assert remote.put([key], [pieces(data)], 0) == [True]
            buffer = bytearray(300_000)
            assert remote.get_into([key], [memoryview(buffer)]) == [len(data)]
            assert buffer[: len(data)] == data
            assert remote.exists([key, KEY]) == [len(data), 0]

    with ThreadPoolExecutor(8) as threads:
        for job in [threads.submit(work, number) for number in range(8)]:
            job.result()


def test_two_may_send_the_same_value_at_once(remote):
    data = bytes(20 * MIB)
    with ThreadPoolExecutor(4) as threads:
        sent = list(threads.map(lambda _: remote.put([KEY], [pieces(data)], 0), range(12)))
    assert sent == [[True]] * 12
    assert remote.exists([KEY]) == [len(data)]


def test_after_its_ttl_a_value_is_a_miss(remote):
    large = bytes(17 * MIB)
    keys = keys_of(2)
    assert remote.put(keys, [pieces(bytes(300)), pieces(large)], 3600) == [True, True]
    assert remote.exists(keys) == [300, len(large)]
    remote.put(keys, [pieces(bytes(300)), pieces(large)], 1)
    time.sleep(1.1)
    assert remote.exists(keys) == [0, 0]
    assert remote.get_into(keys, [memoryview(bytearray(18 * MIB)) for _ in keys]) == [0, 0]
    assert remote.describe().chunks == 2
    assert remote.remove(keys) == 0  # gone as far as anybody can tell, and now in fact
    assert remote.describe().chunks == 0
    remote.put(keys[:1], [pieces(bytes(300))], 0)
    assert remote.exists(keys[:1]) == [300]


def test_a_truncated_object_is_told_by_its_length(remote):
    remote.put([KEY], [pieces(bytes(9 * MIB))], 0)
    name = remote._name(KEY)
    obstore.put(remote._store, name, bytes(1234))
    assert remote.get_into([KEY], [memoryview(bytearray(9 * MIB))]) == [1234]
    obstore.put(remote._store, name, bytes(1234), attributes={EXPIRES: "soon"})
    assert remote.get_into([KEY], [memoryview(bytearray(9 * MIB))]) == [0]


def test_a_value_that_changes_between_ranges_is_a_miss(remote, monkeypatch):
    remote.put([KEY], [pieces(b"a" * (20 * MIB))], 0)
    original = remote._read_range

    def late(*arguments):
        obstore.put(remote._store, remote._name(KEY), b"b" * (20 * MIB), use_multipart=False)
        original(*arguments)

    monkeypatch.setattr(remote, "_read_range", late)
    assert remote.get_into([KEY], [memoryview(bytearray(20 * MIB))]) == [0]


def test_ping_tells_of_a_missing_bucket(store):
    user, password = store.login
    url = store.server.url().replace(BUCKET, "nowhere")
    remote = ObjectStoreRemote(url, user=user, password=password, timeout_s=10, connections=2)
    with pytest.raises(UnavailableError, match="no such bucket"):
        remote.ping()
    with pytest.raises(UnavailableError, match="no such bucket"):
        remote.get_into([KEY], [memoryview(bytearray(300))])
    with pytest.raises(UnavailableError, match="no such bucket"):
        remote.put([KEY], [pieces(bytes(300))], 0)
    remote.close()
    store.open().ping()


@pytest.mark.parametrize("store", ["azurite"], indirect=True)  # moto takes any
def test_a_wrong_secret_is_refused_and_not_shown(store):
    wrong = "c2VjcmV0c2VjcmV0c2VjcmV0"
    remote = ObjectStoreRemote(
        store.server.url(), user=AZURE_ACCOUNT, password=wrong, timeout_s=10, connections=2
    )
    calls = (
        remote.ping,
        lambda: remote.exists([KEY]),
        lambda: remote.get_into([KEY], [memoryview(bytearray(300))]),
        lambda: remote.put([KEY], [pieces(bytes(300))], 0),
        remote.describe,
    )
    for call in calls:
        with pytest.raises(UnavailableError, match=r"access denied.*403") as caught:
            call()
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
        for text in (str(caught.value), repr(caught.value), repr(remote)):
            assert wrong not in text
            assert AZURE_ACCOUNT not in text
    remote.close()


def test_a_server_killed_in_the_middle_and_back(mortal):
    remote = mortal.open(timeout_s=5)
    remote.put([KEY], [pieces(bytes(20 * MIB))], 0)
    took = []

    def read_on() -> None:
        while True:
            began = time.monotonic()
            try:
                remote.get_into([KEY], [memoryview(bytearray(20 * MIB))])
            finally:
                took.append(time.monotonic() - began)

    killer = threading.Timer(0.5, mortal.server.stop)
    killer.start()
    with pytest.raises((UnavailableError, TimedOutError)) as caught:
        read_on()
    killer.join()
    assert len(took) > 1
    assert took[-1] < 5.5
    assert SECRET not in str(caught.value)
    for call in (
        remote.ping,
        lambda: remote.exists([KEY]),
        lambda: remote.put([KEY], [pieces(bytes(20 * MIB))], 0),
        remote.clear,
    ):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"refused|no connection"):
            call()
        assert time.monotonic() - began < 5.5
    mortal.server.start()
    assert remote.exists([KEY]) == [0]
    assert remote.put([KEY], [pieces(bytes(300))], 0) == [True]
    assert remote.get_into([KEY], [memoryview(bytearray(300))]) == [300]
    remote.close()


def test_a_server_that_hangs_is_given_up_in_time(mortal):
    remote = mortal.open(timeout_s=2)
    remote.put([KEY], [pieces(bytes(20 * MIB))], 0)
    mortal.server.freeze()
    buffer = bytearray(20 * MIB)
    for call in (
        remote.ping,
        lambda: remote.exists(keys_of(100)),
        lambda: remote.get_into([KEY] * 20, [memoryview(buffer)] * 20),
        lambda: remote.put([KEY] * 9, [pieces(bytes(20 * MIB))] * 9, 0),
    ):
        began = time.monotonic()
        with pytest.raises(TimedOutError, match="in time"):
            call()
        assert time.monotonic() - began < 2.5
    buffer.append(0)  # which Python refuses while anybody has a view of it
    remote.close()


def test_settings_that_cannot_work(monkeypatch):
    def opened(url: str, user: str | None = None, password: str | None = None) -> None:
        ObjectStoreRemote(url, user=user, password=password, timeout_s=5, connections=1)

    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgumentError, match="which account"):
        opened("az://kv")
    with pytest.raises(InvalidArgumentError, match="base64") as caught:
        opened("az://kv", "account", SECRET + "!")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(InvalidArgumentError, match="service account"):
        opened("gs://kv?service_account=/nowhere.json")
    with pytest.raises(InvalidArgumentError, match="does not know colour"):
        opened("s3://kv?colour=red")


@pytest.mark.parametrize("store", ["moto"], indirect=True)
def test_the_environment_is_used(store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.server.endpoint)
    remote = ObjectStoreRemote(
        f"s3://{BUCKET}?allow_http=true", user=None, password=None, timeout_s=10, connections=1
    )
    remote.ping()
    remote.close()


def test_a_process_ends_well_in_the_middle_of_it(mortal):
    """Whatever threads of obstore do when the interpreter ends."""
    program = (
        "import sys; from lmcache.remote.object_store import ObjectStoreRemote as R\n"
        "r = R(sys.argv[1], user='key', password='secret', timeout_s=10, connections=4)\n"
        "keys = [f'{n:064x}' for n in range(100)]\n"
        "r.put(keys[:4], [[memoryview(bytes(9 << 20))]] * 4, 0); r.exists(keys)\n"
        "print(sum(r.get_into(keys[:4], [memoryview(bytearray(9 << 20)) for _ in range(4)])))\n"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program, mortal.server.url()],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, f"{36 * MIB}\n"), done.stderr
