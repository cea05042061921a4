# SPDX-License-Identifier: Apache-2.0
"""A folder, on a file system that several nodes mount: file:///FOLDER.

Not through obstore: a read goes straight into the buffer, and files are of mode 0600 whatever the
umask. A chunk is FOLDER/lmcache/1/<first two digits>/<64 digits>, written beside its place and
renamed. Its time of modification is when it expires, so that `find` can tell; without a ttl that
is the last second that every file system can store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lmcache.errors import InvalidArgumentError, IoError
from lmcache.remote.base import FORMAT_VERSION, Remote, RemoteUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NEVER = 2**31 - 1
# What a write left behind that did not end; older ones go with clear().
UNFINISHED_S = 3600
_CHUNK = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class FolderRemote(Remote):
    """Files of our own in a folder that is made with mode 0700 if only it is missing.

    `connections` and `timeout_s` stand for nothing here: calls run on the threads of the caller
    and last as long as the file system takes.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None,
        password: str | None,
        timeout_s: float,  # noqa: ARG002
        connections: int,  # noqa: ARG002
    ) -> None:
        self._folder = _folder_of(url, bool(user or password))
        self._chunks = self._folder / "lmcache" / str(FORMAT_VERSION)

    def __repr__(self) -> str:
        return f"FolderRemote({str(self._folder)!r})"

    def exists(self, keys: Sequence[str]) -> Sequence[int]:
        """See Remote. One stat() per key."""
        with self._failures():
            return [self._size(key) for key in keys]

    def get_into(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> Sequence[int]:
        """See Remote. No copy but the kernel's."""
        with self._failures():
            return [self._read(key, buffer) for key, buffer in zip(keys, buffers, strict=True)]

    def put(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], ttl_seconds: int
    ) -> Sequence[bool]:
        """See Remote. False where the file system is full, or a quota."""
        expires = min(int(time.time()) + ttl_seconds, NEVER) if ttl_seconds else NEVER
        with self._failures():
            return [
                self._write(key, pieces, expires) for key, pieces in zip(keys, buffers, strict=True)
            ]

    def remove(self, keys: Sequence[str]) -> int:
        """See Remote. Expired values go too, and are not counted."""
        with self._failures():
            there = sum(1 for key in keys if self._size(key))
            for key in keys:
                self._path(key).unlink(missing_ok=True)
        return there

    def clear(self) -> int:
        """See Remote. Expired values count."""
        removed = 0
        with self._failures():
            for entry in self._entries():
                if _CHUNK.fullmatch(entry.name):
                    Path(entry.path).unlink(missing_ok=True)
                    removed += 1
                elif _UNFINISHED.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < time.time() - UNFINISHED_S:
                            Path(entry.path).unlink()
        return removed

    def describe(self) -> RemoteUse:
        """See Remote. Goes over all that is ours; what has expired counts."""
        chunks = used = 0
        with self._failures():
            for entry in self._entries():
                if _CHUNK.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        used += entry.stat(follow_symlinks=False).st_size
                        chunks += 1
            self._make(self._folder)
            room = os.statvfs(self._folder)
        return RemoteUse(
            f"folder {self._folder}",
            used_bytes=used,
            limit_bytes=used + room.f_bavail * room.f_frsize,
            chunks=chunks,
        )

    def ping(self) -> None:
        """See Remote. Makes the folder if only it is missing."""
        with self._failures():
            self._make(self._folder)
            os.statvfs(self._folder)

    def _path(self, key: str) -> Path:
        return self._chunks / key[:2] / key

    def _size(self, key: str) -> int:
        try:
            found = self._path(key).lstat()
        except FileNotFoundError:
            return 0
        return found.st_size if _usable(found) else 0

    def _read(self, key: str, buffer: memoryview) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self._path(key), flags)
        except FileNotFoundError:
            return 0
        try:
            found = os.fstat(file)
            if not _usable(found) or found.st_size > len(buffer):
                return 0
            done = 0
            while done < found.st_size:
                count = os.preadv(file, [buffer[done : found.st_size]], done)
                if not count:
                    break  # somebody made it shorter
                done += count
            return done
        finally:
            os.close(file)

    def _write(self, key: str, pieces: Sequence[memoryview], expires: int) -> bool:
        path = self._path(key)
        unfinished = path.parent / f".{key}.{uuid.uuid4().hex}"
        try:
            file = self._create(unfinished)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise
        try:
            try:
                _write_all(file, pieces)
                os.utime(file, (expires, expires))
            finally:
                os.close(file)  # network file systems tell here that they are full
            unfinished.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                return False
            raise
        return True

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            for folder in (self._folder, self._chunks.parent, self._chunks, path.parent):
                self._make(folder)
            return os.open(path, flags, 0o600)

    def _make(self, folder: Path) -> None:
        """Make one folder; not what is above the store's, so that a missing mount is noticed."""
        folder.mkdir(mode=0o700, exist_ok=True)

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        for number in range(256):
            with (
                contextlib.suppress(FileNotFoundError),
                os.scandir(self._chunks / f"{number:02x}") as entries,
            ):
                yield from entries

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise IoError(
                f"file://{self._folder}: {error.strerror or error}", os_error=error.errno or 0
            ) from None


def _folder_of(url: str, has_login: bool) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidArgumentError("a folder is file:///absolute/path")
    if parts.query or parts.fragment or has_login:
        raise InvalidArgumentError("file:// has no options, user or password")
    folder = Path(unquote(parts.path))
    if not folder.is_absolute() or folder == Path("/") or ".." in folder.parts:
        raise InvalidArgumentError("a folder is file:///absolute/path, and not / itself")
    return folder


def _usable(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_mtime > time.time()


def _write_all(file: int, pieces: Sequence[memoryview]) -> None:
    left = [piece for piece in pieces if len(piece)]
    while left:
        count = os.writev(file, left)
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if left:
            left[0] = left[0][count:]
