# SPDX-License-Identifier: Apache-2.0
"""The worker half in a whole serving loop: order of copies and computing, failures, ranks."""

from __future__ import annotations

import time
import types

import pytest
from faulty_engine import LateCopies
from paged_model import BLOCK, CHUNK, LAYERS, expected_tokens
from serving_loop import Request

from lmcache.integration.vllm.device_stream import HostStream
from lmcache.integration.vllm.step_plan import StepPlan

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))


def ask(loop, prompt, max_tokens=2):
    """Serve one request, check its output, and return it."""
    request = Request(f"r{len(loop.plans)}", list(prompt), max_tokens)
    loop.run(request)
    right = expected_tokens(prompt, max_tokens, layers=LAYERS, world=loop.model.world)
    assert request.output_token_ids == right
    return request


def gone(real, view, items):
    """The first chunk of a load is not there any more."""
    return real(view, [(1, *items[0][1:]), *items[1:]])


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("size", [BLOCK, BLOCK + 3, CHUNK, CHUNK + 3, 3 * CHUNK + BLOCK + 1])
def test_late_loads_are_waited_for(serve, layerwise, size):
    loop = serve(use_layerwise=layerwise)
    ask(loop, PROMPT[:size])
    LateCopies(loop.workers[0].engine)
    assert ask(loop, PROMPT).loaded_tokens == size
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("layerwise", [False, True])
def test_late_stores_are_waited_for_by_whoever_takes_the_blocks(serve, layerwise):
    loop = serve(blocks=24, budget=40, use_layerwise=layerwise)
    LateCopies(loop.workers[0].engine, polls=30)
    for round_ in range(2):  # what the first one stored wrongly, the second one would read
        prompts = [list(range(i * 60, i * 60 + 40)) for i in range(4)]
        requests = [Request(f"{round_}{i}", prompt, 24) for i, prompt in enumerate(prompts)]
        loop.run(*requests)
        assert sum(request.num_preemptions for request in requests) > 0
        for request in requests:
            right = expected_tokens(request.prompt_token_ids, 24, layers=LAYERS, world=1)
            assert request.output_token_ids == right


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("layerwise", [False, True])
def test_what_a_failed_load_spoilt_is_never_stored(serve, world, layerwise):
    loop = serve(world=world, use_layerwise=layerwise)
    ask(loop, PROMPT[:CHUNK])
    loop.workers[0].engine.faults["submit_load"] = gone
    longer = PROMPT[: 3 * CHUNK]
    assert ask(loop, longer).loaded_tokens == CHUNK  # promised, failed, recomputed
    del loop.workers[0].engine.faults["submit_load"]
    for _ in range(2):
        ask(loop, longer)
    assert ask(loop, longer).loaded_tokens == len(longer) - 1


def test_every_block_of_a_failed_chunk_is_reported(serve):
    loop = serve()
    ask(loop, PROMPT)
    loop.workers[0].engine.faults["submit_load"] = gone
    request = loop.add(Request("bad", PROMPT, 1))
    seen = set()
    loop.workers[0].take_bad_blocks = lambda: seen.update(loop.workers[0]._bad_blocks) or seen
    loop.step()
    assert seen == set(request.blocks[: CHUNK // BLOCK])


@pytest.mark.parametrize("passes_reports", [True, False])
@pytest.mark.parametrize("call", ["submit_load", "wait", "finish", "submit_store", "poll"])
def test_a_broken_engine_costs_the_cache_and_nothing_else(serve, call, caplog, passes_reports):
    loop = serve()
    loop.passes_reports = passes_reports
    ask(loop, PROMPT)

    def broken(real, *arguments):
        raise OSError("broken")

    loop.workers[0].engine.faults[call] = broken
    for i in range(4):
        ask(loop, PROMPT)
        ask(loop, [i, *PROMPT])
    assert caplog.text.count("going on without the cache") == 1
    if passes_reports:
        assert loop.plans[-1].stores == []
        assert ask(loop, PROMPT).loaded_tokens == 0


def test_repeated_failures_pause_the_lookups(serve, caplog):
    loop = serve()
    ask(loop, PROMPT)
    loop.workers[0].engine.faults["submit_load"] = gone
    taken = [ask(loop, PROMPT).loaded_tokens for _ in range(6)]
    assert taken[:3] == [len(PROMPT) - 1] * 3
    assert taken[4:] == [0, 0]
    assert "loads failed in a row" in caplog.text


def test_a_worker_that_never_attached_reports_every_load():
    pytest.importorskip("vllm", reason="step plans are vLLM's metadata")
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.step_plan import LoadPlan, StepPlan
    from lmcache.integration.vllm.worker import WorkerHalf

    config = types.SimpleNamespace(compilation_config=types.SimpleNamespace(cudagraph_mode=None))
    worker = WorkerHalf(None, LMCacheConfig(), config, reason="no segment")
    worker.register({}, 4)
    load = LoadPlan("r", [[1]], [[0]], [[[5, 6]]], shares_last_block=False)
    worker.begin_step(StepPlan(loads=[load], released=["gone"], lost_blocks=[9]))
    worker.load()
    worker.wait_for_layer("layer0")
    worker.store()
    assert worker.take_ended() == {"gone"}
    assert worker.take_bad_blocks() == {5, 6, 9}
    assert worker.take_bad_blocks() == set()
    assert worker.take_report().ranks_off == 1
    assert worker.take_report().reasons == ["no segment"]
    worker.close()


class OnDevice(HostStream):
    """Leaves the waiting to the device, which here is the host: the order of calls is a GPU's."""

    waits_on_device = True


def on_device(loop):
    """Let the KV of a loop lie on a device, as far as the worker half knows."""
    for worker in loop.workers:
        worker._stream = worker._stores._stream = OnDevice()
    return loop


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("size", [BLOCK, CHUNK, 3 * CHUNK + BLOCK + 1])
def test_on_a_device_the_step_is_called_before_the_host_waits(serve, layerwise, size):
    loop = on_device(serve(use_layerwise=layerwise))
    ask(loop, PROMPT[:size])
    engine, forward = loop.workers[0].engine, loop.model.forward
    LateCopies(engine)
    late, calls = engine.faults["wait"], []
    engine.faults["wait"] = lambda real, *given: calls.append("wait") or late(real, *given)
    loop.model.forward = lambda *given: calls.append("step") or forward(*given)
    assert ask(loop, PROMPT).loaded_tokens == size
    assert calls[:2] == ["step", "wait"]


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("drafts", [False, True])
def test_on_a_device_a_failed_load_is_told_before_the_tokens_are_used(serve, layerwise, drafts):
    loop = on_device(serve(use_layerwise=layerwise))
    ask(loop, PROMPT[:CHUNK])
    worker = loop.workers[0]
    worker.engine.faults["submit_load"] = gone
    if drafts:  # vLLM then asks what failed before it calls for the stores
        store, bad = worker.store, worker.take_bad_blocks
        worker.store = lambda: None
        worker.take_bad_blocks = lambda: (bad(), store())[0]
    longer = PROMPT[: 3 * CHUNK]
    assert ask(loop, longer).loaded_tokens == CHUNK  # promised, failed, recomputed
    del worker.engine.faults["submit_load"]
    for _ in range(2):  # what the failed load spoilt was not stored
        ask(loop, longer)
    assert ask(loop, longer).loaded_tokens == len(longer) - 1


def test_a_gpu_that_cannot_be_used_turns_the_cache_off(serve, caplog):
    loop = serve()
    worker = loop.workers[0]
    worker.engine.faults["register_view"] = refuse_view
    worker.register(worker._tensors, loop.model.blocks)
    assert caplog.text.count("going on without the cache: CUDA device 0: there is no driver") == 1
    ask(loop, PROMPT)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("_ended", {"r"}),
        ("_lost_requests", {"r"}),
        ("_bad_blocks", {3}),
        ("_ahead", types.SimpleNamespace(busy=True)),
        ("_speed", types.SimpleNamespace(waits=True, begin=lambda *_: None)),
        ("loads", object()),
    ],
)
def test_it_rests_only_when_nothing_is_left_of_steps_before(serve, monkeypatch, name, left):
    worker = serve().workers[0]
    worker.begin_step(StepPlan())
    assert worker._rests
    with monkeypatch.context() as patch:
        patch.setattr(worker, name, left)
        worker.begin_step(StepPlan())
        assert not worker._rests
    worker.begin_step(StepPlan(released=["r"]))
    assert not worker._rests


def refuse_view(real, *arguments):
    raise OSError("CUDA device 0: there is no driver")


def test_tensors_that_are_not_as_declared_turn_the_cache_off(serve, caplog):
    loop = serve()
    worker = loop.workers[0]
    worker.register({"layer0": worker._tensors["layer0"]}, loop.model.blocks)
    assert "no KV for layer layer1" in caplog.text
    ask(loop, PROMPT)


def test_statistics(serve):
    loop = serve(budget=200, blocks=64)
    ask(loop, PROMPT)
    ask(loop, PROMPT)
    data = loop.workers[0].take_stats().data
    assert data["stored_chunks"] == 5
    assert data["loads"] == 1
    assert data["loaded_bytes"] == -(-len(PROMPT) // BLOCK) * loop.model.page_bytes * LAYERS
    assert data["prefill_tokens"] == len(PROMPT)
    assert 0 < data["load_seconds"] < 5
    assert loop.workers[0].take_stats() is None


def test_what_a_copy_counted_is_told_in_the_step_that_sees_its_end(serve, monkeypatch):
    monkeypatch.setattr("lmcache.integration.vllm.worker._COUNTED_EVERY_S", 3600)
    loop = serve(budget=200, blocks=64)
    worker = loop.workers[0]
    worker.take_stats()
    reads = []
    add_to = worker._counters.add_to
    worker._counters.add_to = lambda stats: reads.append(1) or add_to(stats)
    LateCopies(worker.engine, polls=3)
    request = loop.add(Request("r", list(PROMPT), 100))
    stored = 0
    while stored < 5:
        assert not request.is_finished()
        time.sleep(0.05)  # so that a busy machine copies within the 100 steps
        loop.step()
        told = worker.take_stats()
        stored += told.data.get("stored_chunks", 0) if told else 0
    loop.step()
    worker.take_stats()
    before = len(reads)
    for _ in range(5):
        loop.step()
        worker.take_stats()
    assert len(reads) == before  # none while nothing is copied


@pytest.mark.parametrize(
    ("setting", "captured", "limit"),
    [(False, False, None), (True, False, 0), ("auto", False, 32_000_000), (True, True, None)],
)
def test_layerwise_only_where_its_hook_is_called(setting, captured, limit):
    pytest.importorskip("vllm", reason="step plans are vLLM's metadata")
    from lmcache.config import LMCacheConfig
    from lmcache.integration.vllm.worker import _layerwise_from

    mode = types.SimpleNamespace(has_full_cudagraphs=lambda: captured)
    config = types.SimpleNamespace(compilation_config=types.SimpleNamespace(cudagraph_mode=mode))
    assert _layerwise_from(LMCacheConfig(use_layerwise=setting), config) == limit


@pytest.mark.parametrize("world", [1, 2])
def test_the_time_that_was_saved_can_be_told(serve, world):
    from lmcache.observe.cache_stats import summary

    loop = serve(world=world)
    prompt = list(range(300, 300 + 80))
    ask(loop, prompt)
    assert (
        loop.scheduler.engine.status()["total"]["prefill_tokens"] == 64
    )  # the step of 16 is short
    for _ in range(3):
        ask(loop, prompt)
    total = loop.scheduler.engine.status()["total"]
    assert total["requests"] == 4
    assert total["request_tokens"] == 4 * 79
    assert total["request_hit_tokens"] == 3 * 79
    assert total["request_load_ns"] > 0
    assert summary(loop.scheduler.engine.status())["avg_ttft_reduction"] > 0
