# SPDX-License-Identifier: Apache-2.0
"""The scheduler half in a whole serving loop: what is reused, what is stored, and that outputs stay
right.
"""

from __future__ import annotations

import random

import pytest
from paged_model import BLOCK, CHUNK, LAYERS, expected_tokens
from serving_loop import Request

PROMPT = list(range(100, 100 + 5 * CHUNK + 3))


def right(prompt, count, world=1):
    return expected_tokens(prompt, count, layers=LAYERS, world=world)


def ask(loop, prompt, max_tokens=3, name=None, **fields):
    """Serve one request, check its output, and return it."""
    ask.count += 1
    request = Request(name or f"r{ask.count}", list(prompt), max_tokens, **fields)
    loop.run(request)
    assert request.output_token_ids == right(prompt, max_tokens, loop.model.world)
    return request


ask.count = 0


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, CHUNK - 1, CHUNK, CHUNK + 1, 40, 41])
def test_a_prompt_comes_back_but_for_its_last_token(serve, size):
    loop = serve()
    assert ask(loop, PROMPT[:size]).loaded_tokens == 0
    assert ask(loop, PROMPT[:size]).loaded_tokens == size - 1


@pytest.mark.parametrize("size", [1, 3, CHUNK, CHUNK + 1])
def test_a_longer_prompt_reuses_all_of_a_stored_one(serve, size):
    loop = serve()
    ask(loop, PROMPT[:20])
    assert ask(loop, PROMPT[: 20 + size]).loaded_tokens == 20
    assert ask(loop, [*PROMPT[: 20 + size], 1, 2, 3]).loaded_tokens == 20 + size


@pytest.mark.parametrize("shared", [1, 5, 16, 17, CHUNK - 1, CHUNK, CHUNK + 3, CHUNK + 20])
def test_prompts_that_part_anywhere_share_to_the_token(serve, shared):
    loop = serve()
    ask(loop, PROMPT[: 2 * CHUNK])
    parted = [*PROMPT[:shared], *range(500, 520)]
    assert ask(loop, parted).loaded_tokens == shared


def test_another_engine_on_the_segment_hits(serve):
    ask(serve(), PROMPT)
    assert ask(serve(), PROMPT).loaded_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("budget", [1, 3, CHUNK, 2 * CHUNK + 1])
def test_chunked_prefill(serve, budget):
    loop = serve(budget=budget)
    ask(loop, PROMPT)
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("field", [{"cache_salt": "tenant"}, {"prompt_embeds": object()}])
def test_others_and_untouched_requests_find_nothing(serve, field):
    loop = serve()
    ask(loop, PROMPT)
    assert ask(loop, PROMPT, **field).loaded_tokens == 0


def test_salt_has_a_cache_of_its_own(serve):
    loop = serve()
    ask(loop, PROMPT, cache_salt="a")
    assert ask(loop, PROMPT, cache_salt="a").loaded_tokens == len(PROMPT) - 1
    assert ask(loop, PROMPT, cache_salt="b").loaded_tokens == 0


def test_requests_that_may_not_read_still_store(serve):
    loop = serve()
    ask(loop, PROMPT, skip_reading_prefix_cache=True)
    assert ask(loop, PROMPT, skip_reading_prefix_cache=True).loaded_tokens == 0
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


def test_short_hits_may_be_refused(serve):
    loop = serve(min_retrieve_tokens=20)
    ask(loop, PROMPT[:20])
    assert ask(loop, PROMPT[:20]).loaded_tokens == 0
    ask(loop, PROMPT[:21])
    assert ask(loop, PROMPT[:21]).loaded_tokens == 20


def test_tails_may_be_left_out(serve):
    loop = serve(save_unfull_chunk=False)
    ask(loop, PROMPT)
    assert ask(loop, PROMPT).loaded_tokens == 5 * CHUNK


def test_generated_tokens_are_kept_only_in_conversations(serve):
    loop = serve()
    first = ask(loop, PROMPT, 20)
    turn = PROMPT + first.output_token_ids
    assert ask(loop, turn, 1).loaded_tokens == len(PROMPT)


@pytest.mark.parametrize("answer", [1, 5, CHUNK, 20])
def test_conversation_mode_keeps_answers(serve, answer):
    loop = serve(conversation_mode=True)
    first = ask(loop, PROMPT, answer)
    turn = [*PROMPT, *first.output_token_ids, 7, 8, 9]
    # The last token was sampled and never computed.
    assert ask(loop, turn, 1).loaded_tokens == len(PROMPT) + answer - 1


def test_concurrent_requests_with_a_shared_prefix(serve):
    loop = serve(blocks=200)
    ask(loop, PROMPT)
    requests = [Request(f"c{i}", [*PROMPT, 600 + i], 4) for i in range(8)]
    loop.run(*requests)
    for request in requests:
        assert request.output_token_ids == right(request.prompt_token_ids, 4)
        assert request.loaded_tokens == len(PROMPT)


def test_blocks_are_held_until_copies_end(serve):
    loop = serve()
    loop.workers[0].engine.faults["poll"] = lambda real, job: False  # copies seem never to end
    loop.scheduler.engine.faults["is_ready"] = lambda real, ref: False
    request = loop.add(Request("slow", PROMPT, 1))
    for _ in range(10):
        loop.step()
    assert request.is_finished()
    assert list(loop.held) == ["slow"]
    loop.workers[0].engine.faults.clear()
    loop.run()


def store_steps(loop):
    """Return a list that grows by the number of the step in which a store begins."""
    begun = []

    def submit_store(real, *arguments):
        begun.append(len(loop.plans))
        return real(*arguments)

    loop.workers[0].engine.faults["submit_store"] = submit_store
    return begun


@pytest.mark.parametrize(("answer", "step"), [(1, 1), (2, 2), (20, 2)])
def test_what_a_first_token_waits_for_is_no_copy(serve, answer, step):
    loop = serve(budget=len(PROMPT))
    begun = store_steps(loop)
    ask(loop, PROMPT, answer)
    assert begun == [step]
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


def test_an_answer_of_one_token_that_nobody_foresaw_is_not_waited_for(serve, monkeypatch):
    loop = serve(budget=len(PROMPT))
    begun = store_steps(loop)
    monkeypatch.setattr(loop.scheduler._ledger, "wait", lambda *_: pytest.fail("it has not begun"))
    request = loop.add(Request("short", PROMPT, 20))
    loop.step()
    loop.end(request, "FINISHED_STOPPED")
    assert list(loop.held) == ["short"]
    assert begun == []
    loop.run()
    assert begun == [2]
    monkeypatch.undo()
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


def test_preempted_before_its_store_began(serve):
    loop = serve(budget=len(PROMPT))
    request = loop.add(Request("away", PROMPT, 20))
    loop.step()
    loop._preempt(request)
    other = loop.add(Request("other", PROMPT[::-1], 2))
    loop.run()
    assert request.output_token_ids == right(PROMPT, 20)
    assert other.output_token_ids == right(PROMPT[::-1], 2)
    assert ask(loop, PROMPT).output_token_ids == right(PROMPT, 3)


def test_preempted_requests_come_back_right(serve):
    loop = serve(blocks=24, budget=16)
    requests = [Request(f"p{i}", list(range(i * 50, i * 50 + 30)), 20) for i in range(4)]
    loop.run(*requests)
    assert sum(request.num_preemptions for request in requests) > 0
    for request in requests:
        assert request.output_token_ids == right(request.prompt_token_ids, 20)


def test_requests_preempted_right_after_their_loads_load_again(serve):
    """As a reset of vLLM's prefix cache does with all that run."""
    loop = serve(budget=8)
    ask(loop, PROMPT[:-8])
    request = loop.add(Request("twice", PROMPT, 3))
    loop.step()
    assert request.loaded_tokens == len(PROMPT) - 8
    loop._preempt(request)
    loop.preempted.clear()  # between two steps
    loop.run()
    assert request.loaded_tokens >= len(PROMPT) - 8
    assert request.output_token_ids == right(PROMPT, 3)
    assert not any(plan.lost_blocks for plan in loop.plans)


def test_aborts_leave_nothing_behind(serve):
    loop = serve(budget=8)
    for steps in range(6):
        request = loop.add(Request(f"a{steps}", [steps, *PROMPT], 50))
        for _ in range(steps):
            loop.step()
        loop.end(request, "FINISHED_ABORTED")
        loop.run()
    status = loop.scheduler.engine.status()
    assert status["leased"] == 0
    assert status["writing"] == 0
    ask(loop, [3, *PROMPT])


def test_a_segment_far_too_small_evicts_and_stays_right(serve):
    loop = serve(width=512)  # room for some 60 chunks
    for i in range(30):
        ask(loop, [i, *range(200)], 2)
        ask(loop, PROMPT, 2)
    status = loop.scheduler.engine.status()
    assert status["total"]["evicted_chunks"] > 0
    assert status["leased"] == 0


def test_reset_forgets_and_sets_apart(serve):
    loop, other = serve(), serve()
    ask(loop, PROMPT)
    assert loop.scheduler.reset()
    assert ask(loop, PROMPT).loaded_tokens == 0  # computed anew, perhaps with other weights
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1
    assert ask(other, PROMPT).loaded_tokens == 0  # never sees what a changed engine stored


def test_reset_while_requests_run(serve):
    loop = serve(budget=8)
    request = loop.add(Request("half", PROMPT, 3))
    for _ in range(3):
        loop.step()
    loop.scheduler.reset()
    loop.run()
    assert request.output_token_ids == right(PROMPT, 3)
    assert ask(loop, PROMPT).loaded_tokens == 0  # a mixture is not stored


@pytest.mark.parametrize("call", ["lookup", "reserve", "new_prompt", "is_ready"])
def test_a_broken_engine_costs_the_cache_and_nothing_else(serve, call, caplog):
    loop = serve()
    ask(loop, PROMPT)

    def broken(real, *arguments):
        raise OSError("broken")

    loop.scheduler.engine.faults[call] = broken
    for i in range(5):
        ask(loop, [i, *PROMPT])
    assert caplog.text.count("going on without the cache") == 1


def test_a_promise_is_kept_or_reported(serve, monkeypatch):
    from lmcache.integration.vllm import scheduler

    loop = serve()
    ask(loop, PROMPT)

    def broken(*arguments):
        raise OSError("broken")

    monkeypatch.setattr(scheduler, "plan_load", broken)
    request = ask(loop, PROMPT)
    assert request.loaded_tokens == len(PROMPT) - 1  # was promised
    assert any(plan.lost_blocks for plan in loop.plans)


def test_metadata_is_small(serve):
    import pickle

    loop = serve(blocks=400, budget=2000)
    prompt = list(range(1000))
    ask(loop, prompt)
    ask(loop, prompt)
    assert max(len(pickle.dumps(plan)) for plan in loop.plans) < 12 * len(prompt)
    quiet = [plan for plan in loop.plans if not (plan.loads or plan.stores or plan.released)]
    assert quiet
    assert max(len(pickle.dumps(plan)) for plan in quiet) < 300


@pytest.mark.parametrize("world", [2, 3])
def test_ranks(serve, world):
    loop = serve(world=world)
    ask(loop, PROMPT)
    assert ask(loop, PROMPT).loaded_tokens == len(PROMPT) - 1


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_with_failing_copies(serve, world, seed):
    """Everything at once: prefixes, preemption, eviction, aborts, loads and stores that fail."""
    random_ = random.Random(seed)
    loop = serve(world=world, blocks=40, budget=24, width=256, use_layerwise=seed % 2 == 1)

    def submit_fewer(real, view, items):
        return real(view, [item for item in items if random_.random() > 0.1])

    for worker in loop.workers:
        worker.engine.faults["submit_store"] = submit_fewer
    stem = [random_.randrange(900) for _ in range(60)]
    live, done = [], []
    for i in range(60):
        size = random_.randrange(1, 60)
        tail = [random_.randrange(900) for _ in range(random_.randrange(1, 20))]
        live.append(loop.add(Request(f"x{i}", stem[:size] + tail, random_.randrange(1, 6))))
        if random_.random() < 0.15:
            victim = random_.choice([r for r in live if not r.is_finished()])
            loop.end(victim, "FINISHED_ABORTED")
        if random_.random() < 0.3:
            worker = random_.choice(loop.workers)
            worker.engine.faults["submit_load"] = fail_load if random_.random() < 0.5 else keep_load
        for _ in range(random_.randrange(4)):
            loop.step()
    loop.run()
    done = [request for request in live if request.state == "FINISHED_LENGTH_CAPPED"]
    assert sum(request.loaded_tokens for request in done) > 0
    for request in done:
        assert request.output_token_ids == right(
            request.prompt_token_ids, request.max_tokens, world
        )
    status = loop.scheduler.engine.status()
    assert status["leased"] == 0


def keep_load(real, view, items):
    return real(view, items)


def fail_load(real, view, items):
    """The first chunk is gone when it is to be read."""
    return real(view, [(1, items[0][1], items[0][2]), *items[1:]])
