# SPDX-License-Identifier: Apache-2.0
"""Chunks in a Mooncake store.

A chunk is the object `lmcache:<FORMAT_VERSION>:<key>`, and nothing but the record. With a ttl it is
`lmcache:<FORMAT_VERSION>:<key>:t`, and the record is followed by 16 bytes that say until when it is
good: Mooncake forgets nothing by time. Readers need not know the ttl: they look for both names,
and an object whose time has passed is a miss, and removed by whoever meets it.
"""

from __future__ import annotations

import http.client
import struct
import time
from collections.abc import Iterator, Sequence

import numpy as np

from lmcache.errors import InternalError, InvalidArgumentError
from lmcache.remote.base import FORMAT_VERSION, Remote, RemoteUse
from lmcache.remote.mooncake_client import Lane, MooncakeClient, address_of, batches, checked
from lmcache.remote.mooncake_settings import mooncake_settings

PREFIX = f"lmcache:{FORMAT_VERSION}:"
_TIMED = ":t"
# The trailer of an object with a ttl: a mark, and seconds since the epoch.
_TRAILER = struct.Struct("<8sd")
_MARK = b"lmc-ttl1"
# Mooncake's codes (types.h): gone or never there; removed by somebody else is removed.
_NOT_FOUND = -704
_INVALID = -600


class MooncakeRemote(Remote):
    """`mooncakestore://master:port/?...`; reads, writes and lookups do not wait for each other.

    Connects with the first call, so that making one never waits. Thread-safe.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None,
        password: str | None,
        timeout_s: float,
        connections: int,  # noqa: ARG002  one client serves all threads: see mooncake_client
    ) -> None:
        if user or password:
            raise InvalidArgumentError(
                "remote_user, remote_password: Mooncake has no login; leave them out"
            )
        self._timeout_s = timeout_s
        self._client = MooncakeClient(mooncake_settings(url), timeout_s)
        self._asking, self._reading, self._writing = (Lane(timeout_s) for _ in range(3))
        for lane in (self._asking, self._reading, self._writing):
            self._client.register(lane.memory)

    def exists(self, keys: Sequence[str]) -> Sequence[int]:
        names = self._present(keys)
        sizes = self._sizes([name for name in names if name])
        timed = [name for name in sizes if name.endswith(_TIMED)]
        for part in batches(timed, Lane.SLOTS):
            with self._asking.taken():
                self._drop_expired(timed[part], sizes)
        return [sizes.get(name, 0) for name in names]

    def get_into(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> Sequence[int]:
        lengths: list[int] = []
        for part in batches(keys, Lane.SLOTS):
            with self._reading.taken():
                lengths += self._get_batch(keys[part], buffers[part])
        return lengths

    def put(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], ttl_seconds: int
    ) -> Sequence[bool]:
        trailer = _TRAILER.pack(_MARK, time.time() + ttl_seconds) if ttl_seconds > 0 else b""
        stored: list[bool] = []
        for part in batches(keys, Lane.SLOTS):
            with self._writing.taken():
                stored += self._put_batch(keys[part], buffers[part], trailer)
        return stored

    def remove(self, keys: Sequence[str]) -> int:
        return sum(code == 0 for code in self._remove(list(dict.fromkeys(keys))))

    def clear(self) -> int:
        # By force: not even what is being read stays; who reads it sees by the checksum.
        return int(self._client.call("remove_by_regex", f"^{PREFIX}", True))

    def describe(self) -> RemoteUse:
        master = self._client.settings.master
        self.ping()
        server = f"Mooncake master {master}"
        # The client can neither count nor list; the master's page of figures can, where it is seen.
        try:
            return RemoteUse(
                server,
                "master",
                used_bytes=self._figure("master_allocated_bytes"),
                limit_bytes=self._figure("master_total_capacity_bytes"),
                # With a ttl the same key is there once as well: put() removes the other name.
                chunks=sum(line.startswith(PREFIX) for line in self._page("/get_all_keys")),
            )
        except (OSError, http.client.HTTPException) as error:
            port = self._client.settings.metrics_port
            return RemoteUse(f"{server} (no figures from metrics_port {port}: {error})", "master")

    def ping(self) -> None:
        self._client.call("batch_is_exist", [PREFIX])

    def attach(self, memory: memoryview) -> None:
        if memory.nbytes:
            self._client.register(np.frombuffer(memory, dtype=np.uint8))

    def close(self) -> None:
        self._client.close()

    def _present(self, keys: Sequence[str]) -> list[str]:
        """Return by what name each is there, "" where it is not."""
        if not keys:
            return []
        plain = [PREFIX + key for key in keys]
        names = plain + [name + _TIMED for name in plain]
        there = checked(self._client.call("batch_is_exist", names), len(names), "batch_is_exist")
        half = len(plain)
        return [
            names[index] if there[index] == 1 else names[half + index] * (there[half + index] == 1)
            for index in range(half)
        ]

    def _sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of each object, of which all were there; one round trip."""
        if not names:
            return {}
        described = self._client.call("batch_get_replica_desc", list(names))
        if not described:  # all gone meanwhile, or the request failed, which only others tell
            self.ping()
        sizes: dict[str, int] = {}
        for name, replicas in described.items():
            size = 0
            for replica in replicas:
                if replica.is_memory_replica():
                    size = int(replica.get_memory_descriptor().buffer_descriptor.size)
                    break
            else:  # on disk only
                size = int(self._client.call("get_size", name))
            sizes[name] = max(0, size)
        return sizes

    def _drop_expired(self, names: Sequence[str], sizes: dict[str, int]) -> None:
        """Take the trailers off the sizes; 0 for objects whose time has passed."""
        names = [name for name in names if sizes[name] >= _TRAILER.size]
        if not names:
            return
        start, _ = self._asking.slot(0)
        (read,) = self._client.call(
            "get_into_ranges",
            [start],
            [names],
            [[[index * Lane.SLOT_BYTES] for index in range(len(names))]],
            [[[sizes[name] - _TRAILER.size] for name in names]],
            [[[_TRAILER.size]] * len(names)],
        )
        expired = []
        for index, name in enumerate(names):
            whole = list(read[index]) == [_TRAILER.size]
            if whole and _good(self._asking.slot(index)[1]):
                sizes[name] -= _TRAILER.size
            else:
                sizes[name] = 0
                if whole:
                    expired.append(name)
        self._remove_names(expired)

    def _get_batch(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> list[int]:
        lengths = [0] * len(keys)
        names = self._present(keys)
        plain = [i for i, name in enumerate(names) if name and not name.endswith(_TIMED)]
        if plain:
            sizes = [buffers[i].nbytes for i in plain]
            starts = [self._registered(buffers[i]) for i in plain]
            read = self._client.call("batch_get_into", [names[i] for i in plain], starts, sizes)
            for i, code in zip(plain, checked(read, len(plain), "batch_get_into"), strict=True):
                lengths[i] = max(0, code)
        timed = [i for i, name in enumerate(names) if name.endswith(_TIMED)]
        if timed:
            self._get_timed(timed, names, buffers, lengths)
        return lengths

    def _get_timed(
        self,
        wanted: Sequence[int],
        names: Sequence[str],
        buffers: Sequence[memoryview],
        lengths: list[int],
    ) -> None:
        """Read the record of each into its buffer and the trailer into a slot."""
        sizes = self._sizes([names[i] for i in wanted])
        records = {i: sizes.get(names[i], 0) - _TRAILER.size for i in wanted}
        fitting = [i for i in wanted if 0 < records[i] <= buffers[i].nbytes]
        if not fitting:
            return
        read = self._client.call(
            "batch_get_into_multi_buffers",
            [names[i] for i in fitting],
            [[self._registered(buffers[i]), self._reading.slot(i)[0]] for i in fitting],
            [[records[i], _TRAILER.size] for i in fitting],
        )
        expired = []
        for i, code in zip(fitting, checked(read, len(fitting), "get"), strict=True):
            if code == records[i] + _TRAILER.size:
                if _good(self._reading.slot(i)[1]):
                    lengths[i] = records[i]
                else:
                    expired.append(names[i])
        self._remove_names(expired)

    def _put_batch(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], trailer: bytes
    ) -> list[bool]:
        # What is there is replaced: whoever puts has asked before, so what is there is damaged or
        # came just now. Mooncake would leave the old value and say that it is stored.
        names = self._present(keys)
        there = [i for i, name in enumerate(names) if name]
        codes = self._remove([keys[i] for i in there])
        stuck = {i for i, code in zip(there, codes, strict=True) if code not in (0, _NOT_FOUND)}
        sent = [i for i in range(len(keys)) if i not in stuck]
        stored = [False] * len(keys)
        if not sent:
            return stored
        pieces = [list(self._pieces(i, buffers[i], trailer)) for i in sent]
        ending = _TIMED if trailer else ""
        written = self._client.call(
            "batch_put_from_multi_buffers",
            [PREFIX + keys[i] + ending for i in sent],
            [[start for start, _ in parts] for parts in pieces],
            [[size_bytes for _, size_bytes in parts] for parts in pieces],
        )
        for i, code in zip(sent, checked(written, len(sent), "put"), strict=True):
            if code == _INVALID:
                raise InternalError(f"Mooncake refuses {keys[i]} (code {code})")
            stored[i] = code == 0  # else no room, nobody who lends, or a lender that is gone
        return stored

    def _pieces(
        self, index: int, buffers: Sequence[memoryview], trailer: bytes
    ) -> Iterator[tuple[int, int]]:
        """Return address and bytes of all parts of a value: small ones go through the slot."""
        start, slot = self._writing.slot(index)
        used = 0
        for buffer in (*buffers, memoryview(trailer)):
            size_bytes = buffer.nbytes
            if size_bytes == 0:
                continue
            if size_bytes > len(slot) - used or self._client.holds(address_of(buffer), size_bytes):
                yield self._registered(buffer), size_bytes
            else:
                slot[used : used + size_bytes] = buffer
                yield start + used, size_bytes
                used += size_bytes

    def _registered(self, buffer: memoryview) -> int:
        """Return the address of memory that Mooncake may use: over TCP it may use any."""
        start = address_of(buffer)
        if self._client.settings.protocol != "tcp" and not self._client.holds(start, buffer.nbytes):
            raise InvalidArgumentError("memory that was not attached cannot be moved by RDMA")
        return start

    def _remove(self, keys: Sequence[str]) -> list[int]:
        """Remove both names of each key; return 0 where one was there, else what kept it."""
        plain = [PREFIX + key for key in keys]
        codes = self._remove_names(plain + [name + _TIMED for name in plain])
        pairs = zip(codes[: len(plain)], codes[len(plain) :], strict=True)
        return [
            0 if 0 in pair else min(pair, key=lambda code: code == _NOT_FOUND) for pair in pairs
        ]

    def _remove_names(self, names: Sequence[str]) -> Sequence[int]:
        """Remove objects by force: a lease of whoever read them would keep them for seconds."""
        if not names:
            return []
        codes = self._client.call("batch_remove", list(names), True)
        return checked(codes, len(names), "batch_remove")

    def _figure(self, name: str) -> int:
        for line in self._page("/metrics"):
            if line.startswith(name + " "):
                return int(float(line.split()[1]))
        return 0

    def _page(self, path: str) -> Iterator[str]:
        """Return the lines that the master's page of figures shows."""
        host = (self._client.settings.master_address or ("", 0))[0]
        port = self._client.settings.metrics_port
        link = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            if answer.status != http.client.OK:
                raise http.client.HTTPException(f"{path}: {answer.status}")
            for line in answer:
                yield line.decode(errors="replace").rstrip()
        finally:
            link.close()


def _good(trailer: memoryview) -> bool:
    """Tell whether an object is in its time."""
    mark, until = _TRAILER.unpack_from(trailer)
    return bool(mark == _MARK and time.time() < until)
