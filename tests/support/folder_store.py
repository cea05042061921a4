# SPDX-License-Identifier: Apache-2.0
"""A remote store of the user's own: chunks as files of a folder. It fails and sleeps if told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lmcache.remote import Remote, RemoteUse


class FolderStore(Remote):
    """`fails` and `sleeps` say in which methods it raises, or sleeps for how many seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fails: dict[str, BaseException] = {}
        self.sleeps: dict[str, float] = {}
        self.calls: list[str] = []
        self.ttls: set[int] = set()
        self.memory: list[memoryview] = []
        self.threads: set[int] = set()
        self.closed = 0
        self.busy = threading.Event()  # it is asleep

    def exists(self, keys: Sequence[str]) -> Sequence[int]:
        self._enter("exists")
        paths = [self.folder / key for key in keys]
        return [path.stat().st_size if path.exists() else 0 for path in paths]

    def get_into(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> Sequence[int]:
        self._enter("get_into")
        return [self._read(key, view) for key, view in zip(keys, buffers, strict=True)]

    def _read(self, key: str, view: memoryview) -> int:
        try:
            value = (self.folder / key).read_bytes()
        except FileNotFoundError:
            return 0
        view[: len(value)] = value
        return len(value)

    def put(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], ttl_seconds: int
    ) -> Sequence[bool]:
        self._enter("put")
        self.ttls.add(ttl_seconds)
        for key, parts in zip(keys, buffers, strict=True):
            unfinished = self.folder / f".{key}.{threading.get_ident()}"
            unfinished.write_bytes(b"".join(parts))
            unfinished.rename(self.folder / key)
        return [True] * len(keys)

    def remove(self, keys: Sequence[str]) -> int:
        self._enter("remove")
        there = [self.folder / key for key in keys if (self.folder / key).exists()]
        for path in there:
            path.unlink(missing_ok=True)
        return len(there)

    def clear(self) -> int:
        return self.remove([path.name for path in self.folder.iterdir()])

    def describe(self) -> RemoteUse:
        self._enter("describe")
        return RemoteUse("a folder", "test", 1, 2, len(list(self.folder.iterdir())))

    def ping(self) -> None:
        self._enter("ping")

    def attach(self, memory: memoryview) -> None:
        self._enter("attach")
        self.memory.append(memory)

    def close(self) -> None:
        self.closed += 1
        self.memory.clear()

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.get_ident())
        if name in self.fails:
            raise self.fails[name]
        if name in self.sleeps:
            self.busy.set()
            time.sleep(self.sleeps[name])
