# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lmcache.bench.vllm_figures import Samples, check_reuse, figures
from lmcache.bench.vllm_process import Answer
from lmcache.errors import UnavailableError


def answer(
    ttft: float, tpot: float = 0.1, tokens: tuple[int, ...] = (5, 6, 7), cached: int = 99
) -> Answer:
    times = [ttft + tpot * i for i in range(len(tokens))]
    return Answer(
        token_times_s=times, token_ids=list(tokens), prompt_tokens=100, cached_tokens=cached
    )


def samples(**changed: list[Answer]) -> Samples:
    kinds = {
        "reference": [answer(2.0), answer(4.0), answer(6.0)],
        "native_cold": [answer(2.0), answer(4.0), answer(6.0)],
        "cold": [answer(2.2), answer(4.0), answer(6.0)],
        "native_hit": [answer(0.2), answer(0.2), answer(0.4)],
        "warm": [answer(0.1), answer(0.2), answer(0.2)],
        "restart": [answer(0.3), answer(0.1), answer(0.2)],
    }
    return Samples(**{**kinds, **changed})


def test_medians_are_of_the_times_and_of_the_ratios_within_a_round() -> None:
    found = figures(samples())
    assert found["ttft_native_cold"] == 4.0
    assert found["ttft_warm"] == 0.2
    assert found["ttft_restart"] == 0.2
    assert found["cold_overhead"] == 1.0  # of 1.1, 1.0, 1.0
    assert found["warm_over_native_hit"] == 0.5  # of 0.5, 1.0, 0.5
    assert found["identical"] is True


def test_time_per_token_leaves_the_first_token_out() -> None:
    slow = [answer(2.0, tpot=0.2), answer(4.0, tpot=0.2), answer(6.0, tpot=0.2)]
    assert figures(samples(cold=slow))["tpot_overhead"] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["native_cold", "native_hit", "cold", "warm", "restart"])
def test_one_differing_token_anywhere_is_reported(kind: str) -> None:
    wrong = [answer(1.0), answer(1.0), answer(1.0, tokens=(5, 6, 8))]
    assert figures(samples(**{kind: wrong}))["identical"] is False


def test_the_keys_are_those_that_were_promised() -> None:
    assert list(figures(samples())) == [
        "ttft_native_cold",
        "ttft_native_hit",
        "ttft_cold",
        "ttft_warm",
        "ttft_restart",
        "warm_over_native_hit",
        "cold_overhead",
        "tpot_overhead",
        "identical",
    ]


def test_a_hit_that_was_none_and_a_cold_one_that_was_cached_are_no_measurement() -> None:
    cold, hit = [answer(2.0, cached=3)], [answer(0.2)]
    right = {"native_cold": cold, "cold": cold, "native_hit": hit, "warm": hit, "restart": hit}
    check_reuse(Samples(**right))
    for kind in ("native_cold", "cold"):
        with pytest.raises(UnavailableError, match="99 of 100 tokens were cached"):
            check_reuse(Samples(**{**right, kind: hit}))
    for kind in ("native_hit", "warm", "restart"):
        with pytest.raises(UnavailableError, match="only 3 of 100 tokens"):
            check_reuse(Samples(**{**right, kind: cold}))
