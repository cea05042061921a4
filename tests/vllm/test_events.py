# SPDX-License-Identifier: Apache-2.0
"""KV events of a real engine, as a router gets them: over ZMQ, decoded with vLLM's own types."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zmq
from served_llm import ServedLLM
from vllm.distributed.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KVEventBatch

from lmcache.integration.vllm.kv_events import open_events

TOKENS = 320  # blocks of 128: two whole ones
MODULE = "lmcache.integration.vllm.connector"
OURS = {"kv_connector": "LMCacheConnector", "kv_connector_module_path": MODULE}
SHIPPED = {"kv_connector": "LMCacheConnectorV1"}
# Chunks of 128 tokens of the tiny model take 512 KiB: this holds some 64 of them.
SMALL_GB = 0.034


def prompt(number: int) -> list[int]:
    return random.Random(number).choices(range(3, 2000), k=TOKENS)


def ask(llm: ServedLLM, number: int) -> Any:
    """Serve a prompt, and let its copies end."""
    answer = llm.ask_one(prompt(number))
    llm.settle()
    return answer


class Subscriber:
    """What one router hears of one engine."""

    def __init__(self, endpoint: str) -> None:
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.connect(endpoint)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._decoder = msgspec.msgpack.Decoder(KVEventBatch)
        self.events: list[Any] = []

    def hear(self, enough: Callable[[list[Any]], bool], timeout_s: float = 20.0) -> list[Any]:
        """Return all events so far, as soon as they are enough."""
        deadline = time.monotonic() + timeout_s
        while not enough(self.events):
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0 or not self._socket.poll(left_ms):
                raise AssertionError(f"not heard in time; so far {self.events}")
            _, _, payload = self._socket.recv_multipart()
            self.events += self._decoder.decode(payload).events
        return self.events

    def close(self) -> None:
        self._socket.close(linger=0)


@pytest.fixture
def serve(open_llm, segment, tmp_path) -> Iterator[Callable[..., tuple[ServedLLM, Subscriber]]]:
    """Return a function that starts an engine that publishes, and a subscriber that it has met."""
    subscribers: list[Subscriber] = []

    def start(connector: dict[str, Any], size_gb: float) -> Any:
        endpoint = f"ipc://{tmp_path}/events-{len(subscribers)}"
        extra = {
            "lmcache.segment": f"{segment}-{len(subscribers)}-{tmp_path.name[-20:]}",
            "lmcache.chunk_size": 128,
            "lmcache.max_local_cpu_size": size_gb,
        }
        llm = open_llm(
            kv_transfer_config={
                "kv_role": "kv_both",
                "kv_connector_extra_config": extra,
                **connector,
            },
            kv_events_config={
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": endpoint,
            },
        )
        subscribers.append(Subscriber(endpoint))
        # What is published before the sockets have met is lost: ask until a prompt is heard of to
        # its last chunk.
        for number in range(1000, 1100):
            ask(llm, number)
            last = prompt(number)[128:256]
            try:
                subscribers[-1].hear(
                    lambda heard, last=last: any(
                        event.token_ids == last for event in of_cpu(heard, BlockStored)
                    ),
                    0.2,
                )
                break
            except AssertionError:
                continue
        subscribers[-1].events.clear()
        return llm, subscribers[-1]

    yield start
    for subscriber in subscribers:
        subscriber.close()


def of_cpu(events: list[Any], kind: type, name: str = "CPU") -> list[Any]:
    return [event for event in events if isinstance(event, kind) and event.medium == name]


def hashes_of(events: list[Any], kind: type, medium: str = "CPU") -> set[Any]:
    return {one for event in of_cpu(events, kind, medium) for one in event.block_hashes}


@pytest.mark.parametrize("connector", [OURS, SHIPPED], ids=["ours", "shipped"])
def test_stores_and_removals_are_published(serve, connector):
    llm, subscriber = serve(connector, SMALL_GB)
    ask(llm, 0)
    events = subscriber.hear(lambda heard: len(hashes_of(heard, BlockStored)) >= 2)
    # A router joins them with what vLLM says about its own cache: the same hashes, tokens, parents.
    on_gpu = {event.block_hashes[0]: event for event in of_cpu(events, BlockStored, "GPU")}
    stored = of_cpu(events, BlockStored)
    first = next(event for event in stored if event.token_ids == prompt(0)[:128])
    own = next(event for event in on_gpu.values() if event.token_ids[:128] == first.token_ids)
    assert first.block_hashes == own.block_hashes[:1]
    second = next(event for event in stored if event.token_ids == prompt(0)[128:256])
    assert second.block_hashes == own.block_hashes[1:2]
    assert second.parent_block_hash == first.block_hashes[0]
    assert first.parent_block_hash is None
    for name in ("block_size", "lora_id", "lora_name", "group_idx", "kv_cache_spec_kind"):
        assert getattr(first, name) == getattr(own, name), name
    assert first.extra_keys == (own.extra_keys and own.extra_keys[:1])

    # The segment holds few prompts: the first one goes, and that is told.
    gone = {first.block_hashes[0], second.block_hashes[0]}
    for number in range(1, 60):
        ask(llm, number)
    events = subscriber.hear(lambda heard: gone <= hashes_of(heard, BlockRemoved))
    assert all(event.group_idx == 0 for event in of_cpu(events, BlockRemoved))
    # What a router believes in the end is what is there.
    believed: set[Any] = set()
    taken_back: set[Any] = set()
    for event in events:
        if getattr(event, "medium", None) != "CPU":
            continue
        told = set(event.block_hashes)
        assert not told & (believed if isinstance(event, BlockStored) else taken_back)
        believed, taken_back = (
            (believed | told, taken_back - told)
            if isinstance(event, BlockStored)
            else (believed - told, taken_back | told)
        )
    assert 0 < len(believed) <= llm.connector._scheduler._engine.status()["entries"]


def test_what_an_earlier_engine_stored_is_announced_when_it_is_found(serve, open_llm):
    llm, subscriber = serve(OURS, 0.1)
    ask(llm, 0)
    stored = hashes_of(subscriber.hear(lambda h: len(hashes_of(h, BlockStored)) >= 2), BlockStored)
    scheduler = llm.connector._scheduler
    # As if the next request came to an engine that has just started.
    scheduler.events = open_events(
        scheduler._attachment, llm.llm.llm_engine.vllm_config, llm.connector._kv_cache_config
    )
    subscriber.events.clear()
    assert ask(llm, 0).cached_tokens > 0
    again = subscriber.hear(lambda h: len(hashes_of(h, BlockStored)) >= 2)
    assert hashes_of(again, BlockStored) == stored


def test_a_reset_of_the_cache_takes_everything_back(serve):
    llm, subscriber = serve(OURS, 0.1)
    ask(llm, 0)
    stored = hashes_of(subscriber.hear(lambda h: len(hashes_of(h, BlockStored)) >= 2), BlockStored)
    assert llm.llm.reset_prefix_cache(reset_connector=True)
    ask(llm, 1)  # vLLM publishes with a step
    events = subscriber.hear(lambda heard: stored <= hashes_of(heard, BlockRemoved))
    assert any(isinstance(event, AllBlocksCleared) for event in events)


def test_without_events_nothing_is_kept(open_llm, segment):
    llm = open_llm(
        kv_transfer_config={
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"lmcache.segment": segment},
            **OURS,
        }
    )
    assert llm.connector._scheduler.events is None
    llm.ask_one(prompt(0))
    assert list(llm.connector.take_events()) == []
