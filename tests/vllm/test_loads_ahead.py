# SPDX-License-Identifier: Apache-2.0
"""Requests that wait in vLLM's queue for their loads and hold blocks there, when these are scarce.

A model with windows: with several KV groups loads go ahead.
"""

from __future__ import annotations

import random

import pytest
from faulty_engine import LateCopies
from request_streams import Ask, Question, Stream
from stream_engines import WHOLE_PROMPTS, decorate, engine_settings, start
from stream_runner import StreamRunner

CONFIG = {
    "chunk_size": 64,
    "segment": "private",
    "max_local_cpu_size": 0.05,
    "load_policy": "always",
}
# Of 29 blocks the longer prompt takes 20 to compute and 13 to load, the other one 10 to load: they
# may load at the same time, but not compute the longer one while the other holds its own.
LONG, SHORT = (
    Question(tuple(random.Random(size).choices(range(3, 2000), k=size)), max_tokens=4)
    for size in (300, 260)
)


@pytest.fixture
def llm(open_llm, request):
    prompts = getattr(request, "param", WHOLE_PROMPTS)
    settings = {**engine_settings("gemma3"), **prompts, "num_gpu_blocks_override": 30}
    return start(open_llm, {**settings, "enable_lmcache": True, "lmcache_config": CONFIG})


# The load of the later request begins first.
@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)], ids=["short", "long", "both"])
def test_a_failed_load_lets_those_go_first_that_hold_blocks(llm, failing):
    runner = StreamRunner(llm, {})
    references = runner.answer([LONG, SHORT])
    llm.llm.reset_prefix_cache()
    loads = []

    def lose(real, view, items):
        """The slots of the loads that fail hold other chunks by now."""
        loads.append(items)
        groups = 2
        lost = (len(loads) - 1) // groups in failing
        return real(view, [(1, *item[1:]) for item in items] if lost else items)

    decorate(llm).faults["submit_load"] = lose
    LateCopies(decorate(llm))  # so that both loads end in the same step
    asks = (Ask("long", 0, LONG), Ask("short", 0, SHORT))
    assert runner.findings(Stream("", asks), references) == []
    assert len(loads) == 4


@pytest.mark.parametrize("llm", [{"max_num_batched_tokens": 80}], ids=["in parts"], indirect=True)
def test_those_that_hold_blocks_have_room_to_go_on(llm):
    """Of 29 blocks, one takes 8 to load and 2 more to run, two others 10 each to load: with all
    three loading, the first would wait for its two, and they for their turn.
    """
    stored, *others = (
        Question(tuple(random.Random(size).choices(range(3, 2000), k=size)), max_tokens=4)
        for size in (192, 223, 222)
    )
    longer = Question((*stored.prompt, *range(100, 115)), max_tokens=4)
    runner = StreamRunner(llm, {})
    references = runner.answer([longer])
    llm.llm.reset_prefix_cache(reset_connector=True)  # its end is not to be found
    references |= runner.answer([stored, *others])
    llm.llm.reset_prefix_cache()
    LateCopies(decorate(llm))
    asks = tuple(Ask(str(i), 2 * i, question) for i, question in enumerate([longer, *others]))
    assert runner.findings(Stream("", asks), references) == []
