# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lmcache.integration.vllm.timed_request import run_timed, run_together


def test_every_token_has_its_time(open_llm):
    from vllm import SamplingParams

    served = open_llm()
    prompt = list(range(10, 310))
    sampling = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True)
    answer = run_timed(served.llm, prompt, sampling)
    assert len(answer.token_times_s) == len(answer.token_ids) == 5
    assert answer.token_times_s == sorted(answer.token_times_s)
    assert 0 < answer.ttft_s == answer.token_times_s[0]
    assert answer.prompt_tokens == 300
    assert answer.cached_tokens == 0

    again = run_timed(served.llm, prompt, sampling)
    assert again.token_ids == answer.token_ids
    assert again.cached_tokens == 256  # two blocks of vLLM's own prefix cache
    assert again.as_dict()["cached_tokens"] == 256

    others = [[20 + i, *range(10, 200)] for i in range(3)]
    together = run_together(served.llm, others, sampling)
    assert [len(each.token_times_s) for each in together] == [5, 5, 5]
    alone = [run_timed(served.llm, prompt, sampling) for prompt in others]
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    # One after the other, the last would begin when the first has ended.
    assert together[2].ttft_s < together[0].token_times_s[-1]
