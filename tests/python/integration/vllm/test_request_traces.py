# SPDX-License-Identifier: Apache-2.0
"""What the scheduler half writes down of each request."""

from __future__ import annotations

import time

import pytest
from paged_model import CHUNK
from serving_loop import Request

PROMPT = list(range(100, 100 + 5 * CHUNK + 3))


@pytest.fixture
def traces(segment):
    """Return a function that reads what is known of a request, latest first."""
    from lmcache import _native

    path = _native.segment_path(segment)

    def read(request_id):
        return [one for one in _native.read_requests(path) if one["request_id"] == request_id]

    return read


def test_a_miss_and_a_hit(serve, traces):
    loop = serve()
    loop.run(Request("a", PROMPT))
    loop.run(Request("b", PROMPT))
    (missed,), (hit,) = traces("a"), traces("b")
    assert missed["outcome"] == hit["outcome"] == "looked_up"
    assert missed["prompt_tokens"] == hit["prompt_tokens"] == len(PROMPT)
    assert missed["limit_tokens"] == len(PROMPT) - 1
    assert (missed["found_tokens"], missed["loaded_tokens"]) == (0, 0)
    assert missed["missing_place"] == "absent"
    assert hit["found_tokens"] == hit["loaded_tokens"] == len(PROMPT) - 1
    assert hit["missing_place"] == "none"
    assert abs(hit["unix_s"] - time.time()) < 60
    assert hit["opening"] == missed["opening"]


def test_a_prompt_that_parts(serve, traces):
    loop = serve()
    loop.run(Request("a", PROMPT))
    loop.run(Request("b", [*PROMPT[: CHUNK + 3], 1, 2, 3]))
    (parted,) = traces("b")
    assert parted["found_tokens"] == parted["loaded_tokens"] == CHUNK + 3
    assert parted["missing_place"] == "absent"


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"skip_reading_prefix_cache": True}, "skipped"),
        ({"prompt_embeds": object()}, "not_cacheable"),
    ],
)
def test_requests_that_are_not_looked_up(serve, traces, fields, outcome):
    loop = serve()
    loop.run(Request("a", PROMPT, **fields))
    (trace,) = traces("a")
    assert trace["outcome"] == outcome
    assert trace["note"]


def test_one_token(serve, traces):
    serve().run(Request("a", [7]))
    (trace,) = traces("a")
    assert (trace["outcome"], trace["limit_tokens"]) == ("skipped", 0)


def test_too_few(serve, traces):
    loop = serve(min_retrieve_tokens=20)
    loop.run(Request("a", PROMPT))
    loop.run(Request("b", [*PROMPT[:5], *range(500, 540)]))
    (trace,) = traces("b")
    assert trace["outcome"] == "too_few"
    assert (trace["found_tokens"], trace["loaded_tokens"]) == (5, 0)
    assert "20" in trace["note"]


def test_whole_chunks_only(serve, traces):
    serve(save_unfull_chunk=False).run(Request("a", PROMPT[:3]))
    (trace,) = traces("a")
    assert trace["whole_chunks_only"]


def test_without_the_cache(serve, traces):
    loop = serve()
    loop.run(Request("a", PROMPT))
    loop.scheduler.give_up("a test", RuntimeError("because"))
    loop.run(Request("b", PROMPT))
    (trace,) = traces("b")
    assert trace["outcome"] == "off"
    assert trace["note"] == "a test failed: because"


def test_a_request_that_ends_while_it_waits_is_forgotten(serve):
    loop = serve()
    request = Request("a", PROMPT)
    assert loop.scheduler.matched_tokens(request, 0) == 0
    loop.scheduler.finished(request, [])
    assert not loop.scheduler._traces._seen


def test_a_trace_that_cannot_be_written_costs_nothing(serve, traces):
    loop = serve()
    loop.run(Request("\ud800", PROMPT))  # no UTF-8
    loop.run(Request("b", PROMPT))
    assert not traces("b")
    assert loop.scheduler._traces._broken
    assert not loop.scheduler._off


def test_the_cost_of_a_request(serve):
    """2 to 5 us on the machine this was written on; the bound is for busy ones."""
    loop = serve()
    request = Request("a", PROMPT)
    loop.scheduler.matched_tokens(request, 0)
    state = loop.scheduler._states["a"]
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(100):
            loop.scheduler._traces.found(state, limit=40, computed=0, wait_s=0.0)
            loop.scheduler._traces.admitted(state, 0)
        best = min(best, (time.perf_counter() - begun) / 100)
    print(f"{best * 1e6:.1f} us per request")
    assert best < 100e-6
    loop.scheduler.finished(request, [])
