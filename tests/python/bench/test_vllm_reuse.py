# SPDX-License-Identifier: Apache-2.0
"""Figures and checks; that a real vLLM is measured is tested in tests/vllm."""

from __future__ import annotations

import pytest

from lmcache.bench.vllm_process import Answer, Batch
from lmcache.bench.vllm_reuse import Taken, check, figures
from lmcache.errors import UnavailableError


def answer(ttft: float, tokens: tuple[int, ...] = (5, 6), cached: int = 0) -> Answer:
    times = [ttft + 0.1 * i for i in range(len(tokens))]
    return Answer(
        token_times_s=times, token_ids=list(tokens), prompt_tokens=100, cached_tokens=cached
    )


def taken(cached: int = 90, tokens: tuple[int, ...] = (5, 6)) -> Taken:
    return Taken(
        without=[Batch([answer(2.0), answer(4.0)], 5.0), Batch([answer(3.0)], 3.0)],
        with_lmcache=[
            Batch([answer(0.2, cached=cached), answer(0.4, cached=cached)], 1.0),
            Batch([answer(0.3, tokens, cached)], 1.0),
        ],
    )


def test_figures() -> None:
    assert figures(taken()) == {
        "requests": 3,
        "ttft_p50_without": 3.0,
        "ttft_p50_with": 0.3,
        "ttft_p95_without": 4.0,
        "ttft_p95_with": 0.4,
        "ttft_speedup": 10.0,
        "ttft_ratio": 0.1,
        "throughput_without": 0.75,  # six tokens in 8 s
        "throughput_with": 3.0,
        "throughput_ratio": 4.0,
        "hit_tokens": 270,
        "prompt_tokens": 300,
        "identical": True,
    }


def test_what_vllm_takes_for_any_connector() -> None:
    measured = taken()
    measured.idle = [Batch([answer(2.0), answer(4.5)], 5.0), Batch([answer(3.3)], 5.0)]
    found = figures(measured)
    assert (found["ttft_ratio_idle"], found["throughput_ratio_idle"]) == (1.1, 0.8)


def test_the_slowest_twentieth_is_left_out() -> None:
    batches = [Batch([answer(float(i))], 1.0) for i in range(1, 41)]
    found = figures(Taken(batches, batches))
    assert found["ttft_p95_with"] == 38.0
    assert found["ttft_p50_with"] == 20.5


def test_one_differing_token_is_reported() -> None:
    assert figures(taken(tokens=(5, 7)))["identical"] is False


def test_what_was_not_found_or_should_not_have_been_is_no_measurement() -> None:
    check("rag", taken(cached=90))
    check("no-reuse", taken(cached=0))
    with pytest.raises(UnavailableError, match="only 120 of 300 tokens"):
        check("batch", taken(cached=40))
    with pytest.raises(UnavailableError, match="3 of 300 tokens were found where nothing"):
        check("no-reuse", taken(cached=1))
