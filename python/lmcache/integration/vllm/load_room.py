# SPDX-License-Identifier: Apache-2.0
"""Room for requests that hold blocks in vLLM's queue while they wait for their loads.

vLLM gives a request that loads ahead blocks for what it loads only, and the rest when it is
scheduled; it serves its queue in turn and takes these blocks from nobody. So if the first one
lacked room for its rest, none of them would ever go on. Hence the rule: what all that hold blocks
need to the ends of their prompts fits into vLLM's blocks. Who does not fit waits until they have
gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmcache.integration.vllm.geometry import EngineGeometry, GroupGeometry


class LoadRoom:
    """One thread: the scheduler's."""

    def __init__(self, geometry: EngineGeometry, num_blocks: int) -> None:
        self._groups = geometry.groups
        self._blocks = num_blocks - 1  # one stands for what a window has passed
        self._needs: dict[str, int] = {}  # request -> blocks
        self._next: str | None = None  # waits for room: no other load begins before

    @property
    def taken(self) -> bool:
        """Whether any request holds blocks in the queue."""
        return bool(self._needs)

    def fits(self, request_id: str, tokens: int, loaded_tokens: int) -> bool:
        """Whether a request of so many tokens may take blocks, of which so many are to be loaded;
        0: it computes all.
        """
        if not self._needs:
            return True
        if loaded_tokens and self._next not in (None, request_id):
            return False
        if sum(self._needs.values()) + self._need(tokens, loaded_tokens) <= self._blocks:
            return True
        self._next = self._next or request_id
        return False

    def take(self, request_id: str, tokens: int, loaded_tokens: int) -> None:
        """Note a request that holds blocks from now on."""
        self.give(request_id)
        self._needs[request_id] = self._need(tokens, loaded_tokens)

    def give(self, request_id: str) -> None:
        """Note a request that waits no more: it runs, or has lost its blocks, or is gone."""
        self._needs.pop(request_id, None)
        if self._next == request_id:
            self._next = None

    def _need(self, tokens: int, loaded_tokens: int) -> int:
        return sum(_blocks_of(group, tokens, loaded_tokens) for group in self._groups)


def _blocks_of(group: GroupGeometry, tokens: int, loaded_tokens: int) -> int:
    every = -(-tokens // group.block_tokens)
    if not group.window_tokens or not loaded_tokens:
        return every
    loaded = -(-loaded_tokens // group.block_tokens)
    # A window begins anywhere in a block.
    return min(every, -(-group.window_tokens // group.block_tokens) + 1 + every - loaded)
