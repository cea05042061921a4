# SPDX-License-Identifier: Apache-2.0
"""Which chunks are announced and taken back, for slots whose state the test decides."""

from __future__ import annotations

import logging
import types

import pytest

pytest.importorskip("vllm", reason="events are vLLM's")

import torch
from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.lora.request import LoRARequest
from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash as convert
from vllm.v1.kv_cache_interface import FullAttentionSpec

from lmcache.integration.vllm.kv_events import ChunkEvents, open_events
from lmcache.integration.vllm.store_ledger import ABANDONED_AFTER_S

BLOCK, CHUNK = 4, 8


class Slots:
    """An engine of which only the readiness of slots is asked."""

    def __init__(self):
        self.ready: set[int] = set()
        self.asked = 0
        self.now = 0.0

    def is_ready(self, ref):
        self.asked += 1
        return ref in self.ready


@pytest.fixture
def slots():
    return Slots()


def events_of(slots, lanes=(0,), **sizes):
    sizes = {"chunk_tokens": CHUNK, "block_tokens": BLOCK, "hash_tokens": BLOCK, **sizes}
    fields = {"kv_cache_spec_kind": "full_attention", "kv_cache_spec_sliding_window": None}
    return ChunkEvents(slots, lanes=lanes, group_fields=fields, clock=lambda: slots.now, **sizes)


@pytest.fixture
def events(slots):
    return events_of(slots)


def request(tokens, name="a", **changes):
    """What is read of vLLM's request; its hashes say which text and which block they are of."""
    values = {
        "all_token_ids": list(range(tokens)),
        "block_hashes": [f"{name}{block}".encode() for block in range(tokens // BLOCK)],
        "lora_request": None,
        "mm_features": [],
        "cache_salt": None,
        "prompt_embeds": None,
        "session_id": "s",
    }
    return types.SimpleNamespace(**{**values, **changes})


def hashes(*blocks, name="a"):
    """Hashes as vLLM publishes them: the last 64 bits as a number, unless it is told otherwise."""
    return [convert(f"{name}{block}".encode()) for block in blocks]


def test_a_chunk_is_announced_when_it_is_ready(events, slots):
    events.stored(request(18), 0, 16, [[1, 2]])
    assert events.take() == []
    slots.ready = {2}
    (event,) = events.take()
    assert event == BlockStored(
        block_hashes=hashes(2, 3),
        parent_block_hash=hashes(1)[0],
        token_ids=list(range(8, 16)),
        block_size=BLOCK,
        lora_id=None,
        medium="CPU",
        lora_name=None,
        extra_keys=[None, None],
        group_idx=0,
        kv_cache_spec_kind="full_attention",
        session_id="s",
    )
    slots.ready = {1, 2}
    (event,) = events.take()
    assert (event.block_hashes, event.parent_block_hash) == (hashes(0, 1), None)
    assert events.take() == []


def test_a_chunk_that_is_gone_is_taken_back_once(events, slots):
    events.stored(request(16), 0, 16, [[1, 2]])
    slots.ready = {1, 2}
    assert len(events.take()) == 2
    slots.ready = {2}
    assert events.take() == [BlockRemoved(block_hashes=hashes(0, 1), medium="CPU", group_idx=0)]
    assert events.take() == []


def test_every_rank_must_have_it(slots):
    events = events_of(slots, lanes=(0, 1))
    events.stored(request(8), 0, 8, [[1], [2], [9]])  # a lane of another group says nothing
    slots.ready = {1}
    assert events.take() == []
    slots.ready = {1, 2}
    assert len(events.take()) == 1
    slots.ready = {1}
    assert [type(event) for event in events.take()] == [BlockRemoved]


def test_what_was_stored_by_others_is_not_ours_to_announce(events, slots):
    events.stored(request(16), 0, 16, [[0, 0]])
    slots.ready = {0}
    assert events.take() == []
    assert slots.asked == 0


def test_what_is_found_is_announced(events, slots):
    slots.ready = {1, 2}
    hit = types.SimpleNamespace(prefix_tokens=14, refs=lambda lane: [1, 2])
    events.found(request(16), hit)
    assert [event.block_hashes for event in events.take()] == [hashes(0, 1), hashes(2)]
    events.found(request(16), hit)
    assert events.take() == []


def test_a_tail_that_ends_inside_a_chunk_shares_its_blocks(events, slots):
    slots.ready = {1, 2}
    events.stored(request(6), 0, 6, [[1]])
    assert [event.block_hashes for event in events.take()] == [hashes(0)]
    events.stored(request(8), 0, 8, [[2]])
    (event,) = events.take()
    assert (event.block_hashes, event.parent_block_hash) == (hashes(1), hashes(0)[0])
    assert (event.token_ids, event.extra_keys) == ([4, 5, 6, 7], [None])
    slots.ready = {2}
    assert events.take() == []  # the whole chunk still has it
    slots.ready = set()
    (event,) = events.take()
    assert sorted(event.block_hashes) == hashes(0, 1)


def test_a_chunk_that_comes_back_is_taken_back_first(events, slots):
    slots.ready = {1}
    events.stored(request(8), 0, 8, [[1]])
    assert len(events.take()) == 1
    slots.ready = {5}
    events.stored(request(8), 0, 8, [[5]])
    removed, stored = events.take()
    assert (type(removed), type(stored)) == (BlockRemoved, BlockStored)
    assert removed.block_hashes == stored.block_hashes == hashes(0, 1)
    assert events.take() == []


def test_less_than_a_block_is_nothing(events, slots):
    slots.ready = {1}
    events.stored(request(3), 0, 3, [[1]])
    assert events.take() == []


def test_hashes_that_vllm_has_not_computed_are_not_waited_for(events, slots):
    slots.ready = {1}
    events.stored(request(8, block_hashes=[]), 0, 8, [[1]])
    assert events.take() == []


def test_finer_hashes_are_those_of_the_last_piece_of_a_block(slots):
    events = events_of(slots, hash_tokens=2)
    slots.ready = {2}
    fine = [bytes([piece]) for piece in range(8)]
    events.stored(request(16, block_hashes=fine), 1, 16, [[2]])
    (event,) = events.take()
    assert (event.block_hashes, event.parent_block_hash) == ([5, 7], 3)
    assert event.block_size == BLOCK


def test_what_was_never_written_is_forgotten(events, slots):
    events.stored(request(8), 0, 8, [[1]])
    slots.now = ABANDONED_AFTER_S + 1
    assert events.take() == []
    slots.ready = {1}
    assert events.take() == []
    events.stored(request(8), 0, 8, [[1]])  # and may come again
    assert len(events.take()) == 1


def test_a_reset_takes_everything_back(events, slots):
    slots.ready = {1, 2, 3}
    events.stored(request(16), 0, 16, [[1, 2]])
    events.take()
    events.stored(request(8, "b"), 0, 8, [[3]])
    events.cleared()
    (event,) = events.take()
    assert sorted(event.block_hashes) == hashes(0, 1, 2, 3)
    assert events.take() == []
    events.stored(request(8), 0, 8, [[1]])
    assert [type(event) for event in events.take()] == [BlockStored]


def test_a_step_looks_at_so_many_chunks_and_all_get_their_turn(events, slots):
    count = 1000
    slots.ready = set(range(1, count + 1))
    for ref in slots.ready:
        events.stored(request(8, f"text{ref}-"), 0, 8, [[ref]])
    announced = sum(len(events.take()) for _ in range(2))
    assert announced == count
    slots.asked = 0
    slots.ready.discard(count)
    steps = 0
    while not events.take():
        steps += 1
        assert slots.asked <= 128 * steps
    assert steps < count / 128


def test_adapters_and_salts_are_named_as_vllm_names_them(events, slots):
    slots.ready = {1}
    lora = LoRARequest("tuned", 3, "/adapters/tuned")
    events.stored(request(8, lora_request=lora, cache_salt="pepper"), 0, 8, [[1]])
    (event,) = events.take()
    assert (event.lora_id, event.lora_name) == (3, "tuned")
    assert event.extra_keys == [("tuned", "pepper"), ("tuned",)]


def test_a_failure_ends_the_events_and_nothing_else(events, slots, caplog):
    with caplog.at_level(logging.WARNING):
        events.stored(types.SimpleNamespace(), 0, 8, [[1]])
        slots.ready = {2}
        events.stored(request(8), 0, 8, [[2]])
        assert events.take() == []
    assert len([record for record in caplog.records if "KV events" in record.message]) == 1


def test_events_are_only_made_when_they_are_published():
    config = types.SimpleNamespace(kv_events_config=None)
    assert open_events(None, config, None) is None
    config.kv_events_config = types.SimpleNamespace(enable_kv_cache_events=False)
    assert open_events(None, config, None) is None
    assert open_events(None, types.SimpleNamespace(), None) is None


def shape(*windows):
    """An attachment of two ranks whose groups of layers have these windows."""
    groups = tuple(
        types.SimpleNamespace(window_tokens=window, block_tokens=BLOCK) for window in windows
    )
    geometry = types.SimpleNamespace(groups=groups, ranks=2, chunk_tokens=CHUNK)
    return types.SimpleNamespace(engine=Slots(), geometry=geometry)


def wanted():
    return types.SimpleNamespace(
        kv_events_config=types.SimpleNamespace(enable_kv_cache_events=True)
    )


def kv_cache_config(groups):
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=8, dtype=torch.float32)
    group = types.SimpleNamespace(kv_cache_spec=spec)
    return types.SimpleNamespace(kv_cache_groups=[group] * groups, hash_block_size=2)


def test_events_speak_of_the_group_that_attends_to_everything():
    attachment = shape(16, 0)
    events = open_events(attachment, wanted(), kv_cache_config(2))
    attachment.engine.ready = {7, 8}
    fine = [bytes([piece]) for piece in range(4)]
    events.stored(request(8, block_hashes=fine), 0, 8, [[1], [2], [7], [8]])
    (event,) = events.take()
    assert (event.group_idx, event.block_size, event.block_hashes) == (1, BLOCK, [1, 3])
    assert event.kv_cache_spec_kind == "full_attention"


def test_a_vllm_nobody_has_seen_gets_no_events_and_a_line(caplog):
    assert open_events(shape(0), wanted(), types.SimpleNamespace()) is None
    assert "no KV events of ours" in caplog.text
