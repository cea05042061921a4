# SPDX-License-Identifier: Apache-2.0
"""S3, Azure Blob Storage and Google Cloud Storage, through obstore.

A chunk is the object `[PREFIX/]lmcache/1/<first two digits>/<64 digits>`; its bytes are the value,
its metadata holds when it expires. Calls of obstore block, on threads of ours: its coroutines
complete on threads that outlive the interpreter, which aborts then (2 of 3 runs of 200 HEADs).
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from lmcache.errors import LMCacheError
from lmcache.remote.base import FORMAT_VERSION, Remote, RemoteUse
from lmcache.remote.batch import Batch
from lmcache.remote.object_failure import failure, is_miss, is_no_room, misconfigured
from lmcache.remote.object_url import ObjectUrl, parse_object_url

try:
    import obstore
    from obstore.store import AzureStore, GCSStore, S3Store
except ImportError as missing:
    raise ImportError(
        "s3://, az:// and gs:// need obstore: pip install 'lmcache[object-store]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import GetResult, ListStream, ObjectMeta
    from obstore.store import ObjectStore

MIB = 1 << 20
# A connection to S3 brings 50 to 100 MB/s, so several fetch a large value. 32 MiB over up to 8 of
# 80 MB/s: 445 ms in one piece, 250 in pieces of 16 MiB, 147 of 8, 98 of 4; on loopback, without a
# limit: 62, 54, 57, 71. A GET costs money, so not the smallest.
RANGE_BYTES = 8 * MIB
# Above this a value is sent in parts: two more requests, so not for less.
MULTIPART_BYTES = 16 * MIB
PARTS_AT_ONCE = 4
# Requests without a body that one remote has on its way.
QUESTIONS_AT_ONCE = 16
LIST_PAGE = 1000
# Letters and digits only: Azure takes names of C# and proxies drop headers with underscores.
EXPIRES = "lmcacheexpires"
SERVERS = {"s3": "S3", "az": "Azure Blob Storage", "gs": "Google Cloud Storage"}


class ObjectStoreRemote(Remote):
    """A bucket. Every call ends within `timeout_s`; clear() and describe() while pages come."""

    def __init__(
        self,
        url: str,
        *,
        user: str | None,
        password: str | None,
        timeout_s: float,
        connections: int,
    ) -> None:
        self._url = parse_object_url(url, user, password)
        self._timeout_s = timeout_s
        error: LMCacheError | None = None
        try:
            self._store = _open(self._url, timeout_s)
        except Exception as raised:
            error = misconfigured(str(self._url), raised)
        if error is not None:
            raise error
        prefix = f"{self._url.prefix}/" if self._url.prefix else ""
        self._root = f"{prefix}lmcache/{FORMAT_VERSION}"
        self._ours = re.compile(re.escape(self._root) + r"/[0-9a-f]{2}/[0-9a-f]{64}")
        # Apart, so that nobody who waits for a chunk waits for those that are sent.
        self._readers = ThreadPoolExecutor(max(1, connections), "lmcache-object-get")
        self._writers = ThreadPoolExecutor(max(1, connections), "lmcache-object-put")
        self._askers = ThreadPoolExecutor(QUESTIONS_AT_ONCE, "lmcache-object-ask")

    def __repr__(self) -> str:
        return f"ObjectStoreRemote({str(self._url)!r})"

    def exists(self, keys: Sequence[str]) -> Sequence[int]:
        """See Remote. One HEAD per key, many at once."""
        return [size if live else 0 for size, live in self._heads(keys)]

    def get_into(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> Sequence[int]:
        """See Remote. One GET per value, and one more per further 8 MiB."""
        views, counts = list(buffers), [0] * len(keys)
        batch = Batch(self._readers, self._timeout_s)
        for at, (key, view) in enumerate(zip(keys, views, strict=True)):
            if len(view):
                read = _Read(batch, self._name(key), views, at, len(view), counts)
                batch.start(self._read, read)
        self._finish(batch, views)
        return [max(0, count) for count in counts]

    def put(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], ttl_seconds: int
    ) -> Sequence[bool]:
        """See Remote. One PUT per value; above 16 MiB a multipart upload, which is atomic too."""
        values, written = list(buffers), [False] * len(keys)
        metadata = {EXPIRES: str(int(time.time()) + ttl_seconds)} if ttl_seconds else None
        batch = Batch(self._writers, self._timeout_s)

        def write(at: int, name: str) -> None:
            # A copy: a request that timed out is given up, but may be read from for a while.
            with batch.memory():
                value = _joined(values[at])
            # Not on Azure: of two uploads of one blob the parts mix, and the second one fails.
            in_parts = len(value) > MULTIPART_BYTES and self._url.scheme != "az"
            try:
                obstore.put(
                    self._store,
                    name,
                    value.data,
                    attributes=metadata,
                    use_multipart=in_parts,
                    chunk_size=RANGE_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
            except Exception as error:
                if not is_no_room(error):
                    raise
            else:
                written[at] = True

        for at, key in enumerate(keys):
            batch.start(write, at, self._name(key))
        self._finish(batch, values)
        return list(written)

    def remove(self, keys: Sequence[str]) -> int:
        """See Remote. Expired values go too, and are not counted."""
        heads = self._heads(keys)
        there = [self._name(key) for key, (size, _) in zip(keys, heads, strict=True) if size >= 0]
        if there:
            batch = Batch(self._askers, self._timeout_s)
            batch.start(self._delete, there)
            self._finish(batch)
        return sum(live for _, live in heads)

    def clear(self) -> int:
        """See Remote. Expired values count: a listing does not tell."""
        removed: list[int] = []

        def delete(page: Sequence[ObjectMeta]) -> None:
            self._delete([entry["path"] for entry in page])
            removed.append(len(page))

        self._each_page(delete)
        return sum(removed)

    def describe(self) -> RemoteUse:
        """See Remote. Lists all that is ours, 1000 per request; what has expired counts."""
        sizes: list[int] = []
        counts: list[int] = []

        def count(page: Sequence[ObjectMeta]) -> None:
            sizes.append(sum(entry["size"] for entry in page))
            counts.append(len(page))

        self._each_page(count)
        where = self._url.config.get("endpoint") or self._url.config.get("base_url")
        server = SERVERS[self._url.scheme] + (f" at {where}" if where else "")
        return RemoteUse(server, used_bytes=sum(sizes), chunks=sum(counts))

    def ping(self) -> None:
        """See Remote. Lists what is never there: unlike a HEAD, it tells of a missing bucket."""
        batch = Batch(self._askers, self._timeout_s)
        batch.start(lambda: list(self._list(f"{self._root}/ping")))
        self._finish(batch)

    def close(self) -> None:
        """See Remote. What is on its way ends by itself."""
        for threads in (self._readers, self._writers, self._askers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _name(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}"

    def _heads(self, keys: Sequence[str]) -> list[tuple[int, bool]]:
        """Return of each value its size, -1 where there is none, and whether it may be used."""
        found = [(-1, False)] * len(keys)
        batch = Batch(self._askers, self._timeout_s)

        def ask(first: int, step: int) -> None:
            for at in range(first, len(keys), step):
                if batch.ended:
                    return
                answer = self._get(self._name(keys[at]), head=True)
                if answer is not None:
                    found[at] = (answer.meta["size"], not _expired(answer))

        workers = min(QUESTIONS_AT_ONCE, len(keys))
        for first in range(workers):
            batch.start(ask, first, workers)
        self._finish(batch)
        return list(found)

    def _get(self, name: str, **options: Any) -> GetResult | None:
        try:
            return obstore.get(self._store, name, options=options)  # type: ignore[arg-type]
        except Exception as error:
            if is_miss(error):
                return None
            raise

    def _read(self, read: _Read) -> None:
        """Read the first range; its answer tells how many more there are, and they are started."""
        answer = self._get(read.name, range=(0, min(read.capacity, RANGE_BYTES)))
        if answer is None or answer.meta["size"] > read.capacity or _expired(answer):
            return
        size, tag = answer.meta["size"], answer.meta["e_tag"]
        for begin in range(RANGE_BYTES, size, RANGE_BYTES):
            end = min(begin + RANGE_BYTES, size)
            read.batch.start(self._read_range, read, begin, end, tag)
        read.copy(0, min(size, RANGE_BYTES), answer)

    def _read_range(self, read: _Read, begin: int, end: int, tag: str | None) -> None:
        condition = {"if_match": tag} if tag else {}
        read.copy(begin, end, self._get(read.name, range=(begin, end), **condition))

    def _list(self, prefix: str) -> ListStream[Sequence[ObjectMeta]]:
        return obstore.list(self._store, prefix, chunk_size=LIST_PAGE)

    def _pages(self, prefix: str) -> Iterator[list[ObjectMeta]]:
        for page in self._list(prefix):
            yield [entry for entry in page if self._ours.fullmatch(entry["path"])]

    def _each_page(self, use: Callable[[Sequence[ObjectMeta]], None]) -> None:
        """Use all that is ours; from a second page on the folders are listed side by side."""

        def few() -> None:
            first = list(self._first_page())
            if len(first) < LIST_PAGE:
                use([entry for entry in first if self._ours.fullmatch(entry["path"])])
                return
            for folder in range(256):
                batch.start(folder_of, f"{self._root}/{folder:02x}")

        def folder_of(prefix: str) -> None:
            for page in self._pages(prefix):
                if page:
                    use(page)

        batch = Batch(self._askers, None)
        batch.start(few)
        self._finish(batch)

    def _first_page(self) -> Sequence[ObjectMeta]:
        return next(iter(self._list(self._root)), [])

    def _delete(self, names: list[str]) -> None:
        """Delete objects; one that is gone already does not keep the others."""
        if not names:
            return
        try:
            obstore.delete(self._store, names)
        except Exception as error:
            if not is_miss(error):
                raise
            if len(names) > 1:
                for name in names:
                    self._delete([name])

    def _finish(self, batch: Batch, memory: list[Any] | None = None) -> None:
        raised = batch.finish()
        if memory is not None:
            memory.clear()  # what is still on its way keeps nothing of the caller
        if raised is None:
            return
        if isinstance(raised, LMCacheError):
            raise type(raised)(f"{self._url}: {raised}")
        raise failure(str(self._url), raised)


@dataclass(frozen=True)
class _Read:
    """A value on its way into one of `views`, of `capacity` bytes."""

    batch: Batch
    name: str
    views: list[memoryview]
    at: int
    capacity: int
    counts: list[int]

    def copy(self, begin: int, end: int, answer: GetResult | None) -> None:
        """Copy a range into the buffer; if it is not what was asked for, the value is a miss."""
        data = answer.bytes() if answer is not None else b""
        with self.batch.memory():
            if len(data) != end - begin:
                self.counts[self.at] -= self.capacity + 1  # below 0, whatever else comes
                return
            # numpy lets other threads run meanwhile; a memoryview would not.
            target = np.frombuffer(self.views[self.at], np.uint8)
            target[begin:end] = np.frombuffer(memoryview(data), np.uint8)
            self.counts[self.at] += end - begin


def _open(url: ObjectUrl, timeout_s: float) -> ObjectStore:
    limit = timedelta(seconds=timeout_s)
    client: Any = {
        **url.client,
        "connect_timeout": min(limit / 2, timedelta(seconds=5)),
        "timeout": limit / 2,  # of one attempt
    }
    backoff = {"init_backoff": limit / 100, "max_backoff": limit / 10, "base": 2}
    retry: Any = {"max_retries": 2, "retry_timeout": limit / 2, "backoff": backoff}
    config: Any = {**url.config, **url.access}
    options: Any = {"config": config, "client_options": client, "retry_config": retry}
    if url.scheme == "s3":
        return S3Store(url.bucket, **options)
    if url.scheme == "az":
        return AzureStore(url.bucket, **options)
    return GCSStore(url.bucket, **options)


def _joined(pieces: Sequence[memoryview]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    value = np.empty(sum(map(len, pieces)), np.uint8)
    begin = 0
    for piece in pieces:
        value[begin : begin + len(piece)] = np.frombuffer(piece, np.uint8)
        begin += len(piece)
    return value


def _expired(answer: GetResult) -> bool:
    """Tell whether its time is over, by our clock; of what cannot be read as well."""
    text = answer.attributes.get(EXPIRES)
    if text is None:
        return False
    return not text.isdecimal() or int(text) <= time.time()
