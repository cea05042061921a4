# SPDX-License-Identifier: Apache-2.0
"""The time of steps that compute prompts, on a device that is behind its host."""

from __future__ import annotations

import pytest

from lmcache.integration.vllm.prefill_speed import PrefillSpeed


class Clock:
    """A device that has reached the marks up to `now`."""

    def __init__(self):
        self.marks = 0
        self.now = 0

    def mark(self):
        self.marks += 1
        return self.marks

    def seconds(self, begin, end):
        return float(end - begin) if end <= self.now else None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def speed():
    return PrefillSpeed()


def step(speed, clock, tokens):
    speed.begin(clock, tokens)
    return speed.end(clock)


def test_a_step_is_told_once_when_the_device_has_reached_its_end(speed, clock):
    assert step(speed, clock, 100) == []
    assert step(speed, clock, 200) == []
    clock.now = 2
    assert speed.end(clock) == [(100, 1.0)]
    clock.now = 4
    assert speed.end(clock) == [(200, 1.0)]
    assert speed.end(clock) == []


def test_short_steps_and_spoilt_ones_say_nothing(speed, clock):
    clock.now = 99
    assert step(speed, clock, 63) == []
    assert clock.marks == 0  # and cost nothing
    speed.begin(clock, 64)
    speed.drop()
    assert speed.end(clock) == []
    assert step(speed, clock, 64) == [(64, 1.0)]
