# SPDX-License-Identifier: Apache-2.0
"""Instances with a segment each that share a Redis, which comes and goes."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis_cluster import RedisCluster
from redis_server import INSTALLED, NOT_INSTALLED, RedisServer, until

from lmcache.integration.vllm.bench_engine import Switch

CHUNK = 64
TOKENS = 8
ROUNDS = 25

pytestmark = pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)


def prompt(seed: int, size: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 2000) for _ in range(size)]


PROMPTS = [prompt(70 + i, 400 + 37 * i) for i in range(6)]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    running = RedisServer()
    yield running
    running.remove()


def start(open_llm: Any, url: str, **settings: Any) -> Any:
    config = {
        "chunk_size": CHUNK,
        "segment": "private",
        "max_local_cpu_size": 0.5,
        "remote_url": url,
        "load_policy": "always",  # the speed of a busy machine decides nothing here
        **settings,
    }
    llm = open_llm(block_size=32, enable_lmcache=True, lmcache_config=config)
    until(lambda: remote_state(llm) != "")
    return llm


def total(llm: Any) -> dict[str, int]:
    return dict(llm.worker._attachment.engine.status()["total"])


def remote_state(llm: Any) -> str:
    processes = llm.worker._attachment.engine.status()["processes"]
    return max(str(process["remote_state"]) for process in processes)


@pytest.fixture(scope="module")
def reference(open_llm: Any) -> dict[tuple[int, ...], Any]:
    llm = open_llm(block_size=32)
    return {tuple(asked): llm.ask_one(asked, TOKENS) for asked in PROMPTS}


def same(llm: Any, reference: dict[tuple[int, ...], Any], asked: list[int]) -> int:
    """Ask once and compare; return the tokens that were not computed."""
    answer = llm.ask_one(asked, TOKENS)
    assert answer.differs_from(reference[tuple(asked)]) == ""
    return int(answer.cached_tokens)


def fill(llm: Any, reference: Any) -> None:
    for asked in PROMPTS:
        assert same(llm, reference, asked) == 0
    llm.settle()
    assert llm.worker._attachment.engine.drain(60_000)


@pytest.mark.parametrize("serde", ["msgpack", "naive"])
def test_a_second_instance_is_warm_from_its_first_request(open_llm, reference, server, serde):
    llm = start(open_llm, server.url, remote_serde=serde)
    until(lambda: remote_state(llm) == "connected")
    fill(llm, reference)
    first = total(llm)
    assert first["remote_written_chunks"] == first["stored_chunks"]
    llm = start(open_llm, server.url, remote_serde=serde)
    until(lambda: remote_state(llm) == "connected")
    for asked in PROMPTS:
        assert same(llm, reference, asked) >= len(asked) - CHUNK
    llm.settle()
    second = total(llm)
    assert second["remote_hit_tokens"] >= sum(len(asked) - CHUNK for asked in PROMPTS)
    assert second["remote_read_errors"] == second["remote_corrupt_chunks"] == 0
    now = llm.worker._attachment.engine.status()
    assert now["leased"] == now["writing"] == 0


def test_a_server_that_stops_and_comes_back_costs_nobody_an_answer(open_llm, reference, server):
    llm = start(open_llm, server.url)
    until(lambda: remote_state(llm) == "connected")
    fill(llm, reference)
    llm = start(open_llm, server.url)
    until(lambda: remote_state(llm) == "connected")
    assert same(llm, reference, PROMPTS[0]) >= len(PROMPTS[0]) - CHUNK
    server.process.send_signal(signal.SIGSTOP)
    for asked in PROMPTS[1:3]:
        same(llm, reference, asked)
    until(lambda: remote_state(llm) == "unavailable")
    server.stop()
    same(llm, reference, PROMPTS[3])
    server.start()
    until(lambda: remote_state(llm) == "connected")
    for asked in PROMPTS:
        same(llm, reference, asked)
    llm.settle()
    now = llm.worker._attachment.engine.status()
    assert now["total"]["load_failures_gone"] == 0
    assert now["leased"] == now["writing"] == 0


def test_a_node_of_a_cluster_that_dies_costs_nobody_an_answer(open_llm, reference):
    with RedisCluster() as cluster:
        llm = start(open_llm, cluster.url)
        until(lambda: remote_state(llm) == "connected")
        fill(llm, reference)
        assert all(cluster.chunks(node) for node in range(3))
        llm = start(open_llm, cluster.url, remote_lookup_kept_ms=10)
        until(lambda: remote_state(llm) == "connected")
        assert same(llm, reference, PROMPTS[0]) >= len(PROMPTS[0]) - CHUNK
        cluster.servers[2].stop()
        cached = sum(same(llm, reference, asked) for asked in PROMPTS[1:])
        # A prompt is used up to its first chunk that was there.
        assert cached < sum(len(asked) - CHUNK for asked in PROMPTS[1:])
        assert cached > 0
        llm.settle()
        now = llm.worker._attachment.engine.status()
        assert now["total"]["remote_corrupt_chunks"] == 0
        assert now["leased"] == now["writing"] == 0


@pytest.mark.parametrize("state", ["dead", "hanging"])
def test_a_remote_that_does_not_answer_is_not_waited_for(open_llm, server, state):
    """Printed: the time to the first token with it, over that without a remote."""
    if state == "dead":
        server.stop()
    else:
        server.process.send_signal(signal.SIGSTOP)
    llm = start(open_llm, server.url, load_policy="auto")
    switch = Switch(llm.llm)
    llm.ask_one(prompt(999, 1200), 1)
    times: dict[bool, list[float]] = {True: [], False: []}
    for i in range(2 * ROUNDS):  # in turns, in one process: nothing else differs
        with_remote = i % 2 == 0
        llm.settle()
        switch.turn("lmcache" if with_remote else "none")
        started = time.monotonic()
        llm.ask_one(prompt(3000 + i, 900), 1)
        times[with_remote].append(time.monotonic() - started)
    switch.turn("lmcache")
    assert remote_state(llm) == "unavailable"
    assert total(llm)["remote_read_chunks"] == 0
    medians = [statistics.median(times[with_remote]) for with_remote in (True, False)]
    print(f"\ntime to first token, {state} remote over no cache: {medians[0] / medians[1]:.2f}")
