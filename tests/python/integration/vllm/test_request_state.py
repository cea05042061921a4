# SPDX-License-Identifier: Apache-2.0
"""What is remembered of one request."""

from __future__ import annotations

import hashlib
import types

import pytest
from serving_loop import Request

from lmcache.integration.vllm.request_state import RequestState, is_cacheable


class RecordingPrompt:
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []

    def append(self, tokens):
        self.calls.append(("append", list(tokens)))

    def add_item(self, offset, length, content):
        self.calls.append(("item", offset, length, content))


def feature(identifier, offset, length):
    position = types.SimpleNamespace(offset=offset, length=length)
    return types.SimpleNamespace(identifier=identifier, mm_position=position)


def test_each_token_is_hashed_once():
    request, prompt = Request("r", [1, 2, 3]), RecordingPrompt()
    state = RequestState(request, None, prompt)
    state.hash_new_tokens()
    state.hash_new_tokens()
    request.output_token_ids += [4, 5]
    state.hash_new_tokens()
    assert prompt.calls == [("append", [1, 2, 3]), ("append", [4, 5])]


def test_items_come_first_and_in_order():
    request = Request("r", [0] * 20, mm_features=[feature("b", 10, 3), feature("a", 2, 4)])
    prompt = RecordingPrompt()
    RequestState(request, None, prompt).hash_new_tokens()
    kinds = [call[0] for call in prompt.calls]
    assert kinds == ["item", "item", "append"]
    assert prompt.calls[0] == ("item", 2, 4, hashlib.sha256(b"a").digest())
    assert prompt.calls[1][1] == 10


def test_a_lease_is_given_back_once():
    released = []
    state = RequestState(Request("r", [1]), None, RecordingPrompt())
    state.hit = types.SimpleNamespace(release=lambda: released.append(1))
    state.release_hit()
    state.release_hit()
    assert released == [1]


def test_tokens_in_flight_are_not_confirmed():
    request = Request("r", [1] * 9, num_computed_tokens=8, num_in_flight_tokens=3)
    assert RequestState(request, None, RecordingPrompt()).confirmed_tokens() == 5


@pytest.mark.parametrize(
    ("state", "well"),
    [
        ("FINISHED_STOPPED", True),
        ("FINISHED_LENGTH_CAPPED", True),
        ("FINISHED_ABORTED", False),
        ("FINISHED_ERROR", False),
    ],
)
def test_ends(state, well):
    request = Request("r", [1], state=state)
    assert RequestState(request, None, RecordingPrompt()).ended_well() is well


def test_only_token_ids_are_cached():
    assert is_cacheable(Request("r", [1]))
    assert not is_cacheable(Request("r", []))
    assert not is_cacheable(Request("r", None))
    assert not is_cacheable(Request("r", [1], prompt_embeds=object()))
    streamed = Request("r", [1])
    streamed.resumable = True
    assert not is_cacheable(streamed)
    mixed = Request("r", [1])
    mixed.prompt_is_token_ids = [True]
    assert not is_cacheable(mixed)


@pytest.mark.parametrize(
    ("computed", "end", "answered", "goes_on"),
    [
        (0, 9, 0, True),
        (0, 8, 0, False),  # of the prompt one is left to compute
        (9, 10, 1, False),  # the second token
        (0, 10, 1, True),  # computed again after a preemption
        (0, 11, 2, False),  # as this, and it ends there
    ],
)
def test_steps_that_draw_a_first_token(computed, end, answered, goes_on):
    request = Request("r", [1] * 9, max_tokens=3, output_token_ids=[5] * answered)
    state = RequestState(request, None, RecordingPrompt())
    assert state.goes_on_after_first(computed, end) is goes_on
