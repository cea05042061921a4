# SPDX-License-Identifier: Apache-2.0
"""What is fetched for several requests at once is over for all of them in the same step."""

from __future__ import annotations

from types import SimpleNamespace

from lmcache.integration.vllm.fetch_watch import FetchWatch


class Fetch:
    over = False

    def done(self):
        return self.over


def test_all_are_looked_at_when_the_first_is_asked_for():
    fetch = Fetch()
    first, second = (SimpleNamespace(request_id=name, fetch=fetch) for name in "ab")
    idle = SimpleNamespace(request_id="c", fetch=None)
    watch = FetchWatch()
    assert not watch.is_over(first, 1, [first, second, idle])
    fetch.over = True  # between the two
    assert not watch.is_over(second, 1, [first, second, idle])
    assert watch.is_over(first, 2, [first, second, idle])
    assert watch.is_over(second, 2, [first, second, idle])
    assert not watch.is_over(idle, 2, [first, second, idle])


def test_what_comes_while_they_are_looked_at_is_there_for_all():
    class Arriving(Fetch):
        def done(self):
            was_over, self.over = self.over, True
            return was_over

    fetch = Arriving()
    first, second = (SimpleNamespace(request_id=name, fetch=fetch) for name in "ab")
    watch = FetchWatch()
    assert watch.is_over(first, 1, [first, second])
    assert watch.is_over(second, 1, [first, second])


def test_one_that_begins_to_fetch_later_in_a_step_waits_for_the_next():
    fetch = Fetch()
    fetch.over = True
    first, late = (SimpleNamespace(request_id=name, fetch=fetch) for name in "ab")
    watch = FetchWatch()
    assert watch.is_over(first, 7, [first])
    assert not watch.is_over(late, 7, [first, late])
    assert watch.is_over(late, 8, [first, late])
