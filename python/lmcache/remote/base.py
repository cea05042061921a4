# SPDX-License-Identifier: Apache-2.0
"""What a remote store with a client in Python implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Part of every name in a store, so that an older or newer form of values is never read.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class RemoteUse:
    """What a store says of itself; sizes in bytes, 0 where it does not say."""

    server: str
    role: str = ""
    used_bytes: int = 0
    limit_bytes: int = 0
    chunks: int = 0


class Remote(ABC):
    """A store of whole chunks.

    A value is the record of one chunk: 256 bytes of header, KV, token ids; it is checked by whoever
    called, so a remote need only say how many bytes came. Keys are 64 hexadecimal digits; the
    remote puts its prefix and `FORMAT_VERSION` before them.

    Every method blocks and is called by several threads at once. It must end by itself when the
    store does not answer: until it returns, the memory it was given cannot be used for anything
    else. An exception counts as a failure of the whole store: it is left alone for a while.
    """

    @abstractmethod
    def exists(self, keys: Sequence[str]) -> Sequence[int]:
        """Return the bytes of each value, 0 where there is none; one batch, not one by one."""

    @abstractmethod
    def get_into(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> Sequence[int]:
        """Read each value into its buffer (writable, one dimension of bytes, maybe longer).

        Returns how many bytes came for each; 0 where there is none, or one that does not fit.
        """

    @abstractmethod
    def put(
        self, keys: Sequence[str], buffers: Sequence[Sequence[memoryview]], ttl_seconds: int
    ) -> Sequence[bool]:
        """Write each value, which is its buffers (read-only bytes) one after the other.

        `ttl_seconds` is 0 for values that stay for ever. Returns False for what the store has no
        room for. A value must be there whole or not at all.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> int:
        """Remove values; return how many there were."""

    @abstractmethod
    def clear(self) -> int:
        """Remove all chunks of ours and nothing else; return how many."""

    @abstractmethod
    def describe(self) -> RemoteUse:
        """Return what the store is, and how many chunks of ours it has."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the store has answered; one round trip."""

    def attach(self, memory: memoryview) -> None:  # noqa: B027
        """Learn the memory that all buffers of get_into() and put() lie in, before the first.

        For clients that register memory. May be called again with more; never while a call runs.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of the store and of all memory; nothing is called afterwards."""
