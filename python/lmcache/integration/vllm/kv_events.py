# SPDX-License-Identifier: Apache-2.0
"""KV events: what of this engine's prompts lies in the segment, told through vLLM's publisher.

Its rules:
* A chunk is announced (`BlockStored`, medium "CPU") when every rank's copy of it is published, and
  taken back (`BlockRemoved`) when one of them is gone, whichever process evicted it.
* Nobody is told of evictions: the chunks announced are looked at in turn, so many per step, each by
  one read of shared memory. An engine without requests runs no step and says nothing meanwhile.
* A hash is announced once and taken back once: chunks that end inside each other share their first
  blocks.

The hashes are those of vLLM's own events, so that a router can join both.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.v1.core import kv_cache_utils

from lmcache.integration.vllm import compat
from lmcache.integration.vllm.store_ledger import ABANDONED_AFTER_S

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.attachment import Attachment

log = logging.getLogger("vllm.lmcache")

MEDIUM = "CPU"

# A look at a slot takes 1 us. So many per step, and 100,000 chunks are gone through in 800 steps.
_WATCHED_PER_STEP = 128
_AWAITED_PER_STEP = 512


class _Chunk:
    """Blocks with their slots, one per rank that stored them."""

    __slots__ = ("announced", "forgotten", "hashes", "refs", "since", "stored")

    def __init__(
        self, refs: tuple[int, ...], hashes: list[bytes], stored: dict[str, Any], since: float
    ) -> None:
        self.refs = refs
        self.hashes = hashes
        self.stored: dict[str, Any] | None = stored  # the fields of the event, until it is sent
        self.since = since
        self.announced = False
        self.forgotten = False


class ChunkEvents:
    """One thread: the scheduler's."""

    def __init__(
        self,
        engine: _native.Engine,
        *,
        chunk_tokens: int,
        block_tokens: int,
        hash_tokens: int,
        lanes: Sequence[int] = (0,),
        group: int = 0,
        group_fields: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hash_tokens`: how many tokens each of a request's `block_hashes` adds; `lanes`: those
        of the group of layers that is spoken of; `group_fields`: what vLLM's events say about it.
        """
        self._engine = engine
        self._lanes = lanes
        self._chunk_tokens = chunk_tokens
        self._block_tokens = block_tokens
        self._hashes_per_block = block_tokens // hash_tokens
        self._fields = {"group_idx": group, **(group_fields or {})}
        self._clock = clock
        self._chunks: dict[bytes, _Chunk] = {}  # by the hash of its last block
        self._awaited: deque[_Chunk] = deque()
        self._watched: deque[_Chunk] = deque()
        self._holders: dict[bytes, int] = {}  # hash announced -> chunks that have it
        self._removed: list[bytes] = []
        self._off = False

    def stored(
        self, request: Any, first_chunk: int, end_token: int, refs: Sequence[Sequence[int]]
    ) -> None:
        """Note that slots were reserved for chunks of a request, `refs` by [lane][chunk]."""
        own = [refs[lane] for lane in self._lanes]
        self._safely(lambda: self._note_all(request, first_chunk, end_token, own))

    def found(self, request: Any, hit: _native.Hit) -> None:
        """Note what a request found, e.g. stored by an engine that is gone or by another one."""
        end = int(hit.prefix_tokens)
        own = [hit.refs(lane) for lane in self._lanes]
        self._safely(lambda: self._note_all(request, 0, end, own))

    def cleared(self) -> None:
        """Note that nothing that was stored so far will be found any more."""
        for chunk in list(self._chunks.values()):
            self._forget(chunk)
        self._chunks.clear()

    def take(self) -> list[Any]:
        """Return the events since the last call: removals, then stores."""
        events: list[Any] = []
        self._safely(lambda: self._collect(events))
        return events

    def _collect(self, events: list[Any]) -> None:
        self._watch()
        if self._removed:
            events.append(self._event(BlockRemoved, block_hashes=self._removed))
            self._removed = []
        events.extend(self._publish())

    def _safely(self, step: Callable[[], None]) -> None:
        """A router that knows less is no reason to fail a request."""
        if self._off:
            return
        try:
            step()
        except Exception as error:
            self._off = True
            log.warning("LMCache: KV events failed, going on without them: %s", error)

    def _note_all(
        self, request: Any, first_chunk: int, end_token: int, refs: Sequence[Sequence[int]]
    ) -> None:
        for piece, slots in enumerate(zip(*refs, strict=True)):
            self._note(request, first_chunk + piece, end_token, slots)

    def _note(self, request: Any, chunk: int, end_token: int, slots: Sequence[int]) -> None:
        block = self._block_tokens
        begin = chunk * self._chunk_tokens
        end = min(end_token, begin + self._chunk_tokens)
        end -= (end - begin) % block
        refs = tuple(slot for slot in slots if slot)
        hashes = self._hashes(request, begin // block, end // block)
        if not refs or not hashes:
            return
        known = self._chunks.get(hashes[-1])
        if known is not None:
            if known.refs[0] in refs:
                return
            self._forget(known)
        entry = _Chunk(refs, hashes, self._stored_fields(request, begin, end), self._clock())
        self._chunks[hashes[-1]] = entry
        self._awaited.append(entry)

    def _hashes(self, request: Any, first: int, end: int) -> list[bytes]:
        """Return vLLM's hashes of blocks; none if it has not computed them all."""
        step, known = self._hashes_per_block, request.block_hashes
        if first >= end or end * step > len(known):
            return []
        return [known[(block + 1) * step - 1] for block in range(first, end)]

    def _stored_fields(self, request: Any, begin: int, end: int) -> dict[str, Any]:
        lora = request.lora_request
        blocks = range(begin, end, self._block_tokens)
        return {
            "parent_block_hash": self._hash_before(request, begin),
            "token_ids": list(request.all_token_ids[begin:end]),
            "block_size": self._block_tokens,
            "lora_id": None if lora is None else lora.adapter_id,
            "lora_name": None if lora is None else lora.name,
            "extra_keys": compat.event_extra_keys(request, blocks, self._block_tokens),
            "session_id": compat.session_id(request),
            **self._fields,
        }

    def _hash_before(self, request: Any, begin: int) -> bytes | None:
        last = begin // self._block_tokens
        return self._hashes(request, last - 1, last)[0] if last else None

    def _publish(self) -> Iterable[Any]:
        """Announce what is ready of what is awaited."""
        now = self._clock()
        for _ in range(min(len(self._awaited), _AWAITED_PER_STEP)):
            chunk = self._awaited.popleft()
            if chunk.forgotten:
                continue
            if all(map(self._engine.is_ready, chunk.refs)):
                yield from self._announce(chunk)
            elif now - chunk.since > ABANDONED_AFTER_S:  # never written, or evicted at once
                self._chunks.pop(chunk.hashes[-1], None)
                self._forget(chunk)
            else:
                self._awaited.append(chunk)

    def _announce(self, chunk: _Chunk) -> Iterable[Any]:
        fields, chunk.stored, chunk.announced = chunk.stored, None, True
        assert fields is not None, "announced twice"
        known = 0  # a chunk that ended inside this one has announced its first blocks
        while known < len(chunk.hashes) and chunk.hashes[known] in self._holders:
            known += 1
        for one in chunk.hashes:
            self._holders[one] = self._holders.get(one, 0) + 1
        self._watched.append(chunk)
        if known == len(chunk.hashes):
            return
        if known:
            fields["parent_block_hash"] = chunk.hashes[known - 1]
            fields["token_ids"] = fields["token_ids"][known * self._block_tokens :]
            fields["extra_keys"] = fields["extra_keys"] and fields["extra_keys"][known:]
        yield self._event(BlockStored, block_hashes=chunk.hashes[known:], **fields)

    def _watch(self) -> None:
        """Find out what is gone of what was announced."""
        budget = _WATCHED_PER_STEP
        for _ in range(len(self._watched)):
            if budget <= 0:
                return
            chunk = self._watched.popleft()
            if chunk.forgotten:
                continue
            budget -= len(chunk.refs)
            if all(map(self._engine.is_ready, chunk.refs)):
                self._watched.append(chunk)
            else:
                self._chunks.pop(chunk.hashes[-1], None)
                self._forget(chunk)

    def _forget(self, chunk: _Chunk) -> None:
        chunk.forgotten = True
        if not chunk.announced:
            return
        for one in chunk.hashes:
            self._holders[one] -= 1
            if not self._holders[one]:
                del self._holders[one]
                self._removed.append(one)

    def _event(self, kind: Any, block_hashes: list[bytes], **fields: Any) -> Any:
        """Make an event of the fields that this version of vLLM has."""
        convert = kv_cache_utils.maybe_convert_block_hash
        if fields.get("parent_block_hash") is not None:
            fields["parent_block_hash"] = convert(fields["parent_block_hash"])
        fields |= {"block_hashes": [convert(one) for one in block_hashes], "medium": MEDIUM}
        fields.setdefault("group_idx", self._fields["group_idx"])
        return kind(**{name: fields[name] for name in kind.__struct_fields__ if name in fields})


def open_events(
    attachment: Attachment, vllm_config: Any, kv_cache_config: Any
) -> ChunkEvents | None:
    """Return the events of an engine; None unless vLLM is to publish them. Never raises.

    They speak of the first group of layers that attends to everything, if there is one.
    """
    wanted = getattr(vllm_config, "kv_events_config", None)
    if wanted is None or not wanted.enable_kv_cache_events:
        return None
    try:
        return _open_events(attachment, kv_cache_config)
    except Exception as error:
        log.warning("LMCache: no KV events of ours: %s", error)
        return None


def _open_events(attachment: Attachment, kv_cache_config: Any) -> ChunkEvents:
    geometry = attachment.geometry
    whole = [index for index, group in enumerate(geometry.groups) if not group.window_tokens]
    index = whole[0] if whole else 0
    block_tokens = geometry.groups[index].block_tokens
    return ChunkEvents(
        attachment.engine,
        chunk_tokens=geometry.chunk_tokens,
        block_tokens=block_tokens,
        hash_tokens=compat.hash_block_tokens(kv_cache_config, block_tokens),
        lanes=range(index * geometry.ranks, (index + 1) * geometry.ranks),
        group=index,
        group_fields=compat.event_fields_of_group(
            kv_cache_config.kv_cache_groups[index].kv_cache_spec
        ),
    )
