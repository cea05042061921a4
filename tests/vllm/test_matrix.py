# SPDX-License-Identifier: Apache-2.0
"""Every kind of model on every schedule: the answers with the cache are those without it, to the
token and to 1e-4 in log-probability, and when the same is asked again the cache is used.

The table is tests/support/matrix_table.py. A row with a reason in `refused` is a model that is not
cached yet: it is answered, nothing is found, and the log says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from matrix_engines import Answers, MatrixEngines, Running
from matrix_schedules import WORK, ask_again
from matrix_table import MODELS, ROWS, Row
from redis_server import INSTALLED, NOT_INSTALLED
from served_llm import Answer, ServedLLM


@pytest.fixture(scope="module")
def engines(
    request: pytest.FixtureRequest, open_llm: Callable[..., ServedLLM]
) -> Iterator[MatrixEngines]:
    params = [getattr(item, "callspec", None) for item in request.session.items]
    rows = [one.params["row"] for one in params if one and "row" in one.params]
    with pytest.MonkeyPatch.context() as patch:
        started = MatrixEngines(rows, open_llm, patch.setenv)
        yield started
        started.close()


def assert_same(answers: list[Answer], reference: list[Answer]) -> None:
    differences = [
        mine.differs_from(theirs) for mine, theirs in zip(answers, reference, strict=True)
    ]
    assert differences == [""] * len(reference)


def marks(row: Row) -> list[Any]:
    long = [] if row.quick else [pytest.mark.matrix]
    needs = [pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)]
    return long + (needs if row.tier == "remote" else [])


@pytest.mark.parametrize("row", [pytest.param(row, id=str(row), marks=marks(row)) for row in ROWS])
def test_row(engines: MatrixEngines, row: Row) -> None:
    reference = engines.reference(row)
    engine = engines.cached(row)
    if row.refused:
        refuse(engine, row, reference)
        return
    before = len(engine.preempted)
    first, loaded_first = loads_of(engine, WORK[row.schedule].ask)
    assert_same(first, reference[0])
    engine.settle()
    if row.tier != "dram":
        engine = engines.restarted(row)
        before = len(engine.preempted)
    again, loaded_again = loads_of(engine, partial(ask_again, WORK[row.schedule]))
    assert_same(again, reference[1])
    check_hits(row, first, again)
    check_loads(row, loaded_first, loaded_again)
    if row.schedule == "preemption":
        assert len(engine.preempted) > before
    if row.schedule == "reset":
        forget(engine, row, reference[0])
    engine.settle()  # what is written to the tiers below is leased
    status = engine.status()
    assert (status["leased"], status["writing"]) == (0, 0)
    if row.tier == "disk":
        assert status["total"]["disk_read_chunks"] > 0
    if row.tier == "remote":
        assert status["total"]["remote_read_chunks"] > 0


def loads_of(engine: Running, ask: Callable[[ServedLLM], list[Answer]]) -> tuple[list[Answer], int]:
    """Return the answers, and how many tokens came out of the cache for them."""
    before = engine.llm.loaded_tokens()
    answers = ask(engine.llm)
    engine.llm.settle()
    return answers, engine.llm.loaded_tokens() - before


def refuse(engine: Running, row: Row, reference: Answers) -> None:
    assert_same(WORK[row.schedule].ask(engine.llm), reference[0])
    again = ask_again(WORK[row.schedule], engine.llm)
    assert_same(again, reference[1])
    # As many as without us: requests of one time find each other's blocks in vLLM's own cache.
    assert [mine.cached_tokens for mine in again] == [one.cached_tokens for one in reference[1]]
    said = [line for line in engine.said if "vLLM runs without the cache" in line]
    assert len(said) == 1
    assert row.refused in said[0]


def check_hits(row: Row, first: list[Answer], again: list[Answer]) -> None:
    schedule = WORK[row.schedule]
    found = [answer.cached_tokens for answer in again]
    if not schedule.cached:
        assert found == [0] * len(again)
        return
    before = sum(answer.cached_tokens for answer in first)
    # What aborted requests computed is found the first time already. Of several answers vLLM
    # reports one hit, mostly that of the last, which finds what the first one computed.
    assert sum(found) > before or row.schedule in {"aborted", "several answers"}
    assert all(tokens > 0 for tokens in found)
    expected = schedule.found_tokens
    if expected is not None and MODELS[row.model].exact:
        assert found == list(expected)


def check_loads(row: Row, first: int, again: int) -> None:
    """Look at the tokens that came out of the cache the first time and when asked again."""
    if not WORK[row.schedule].cached:
        assert (first, again) == (0, 0)
    elif row.schedule == "several answers":
        assert again > first
    else:
        assert again > 0


def forget(engine: Running, row: Row, reference: list[Answer]) -> None:
    """The connector is emptied with vLLM's own cache, and fills again."""
    assert engine.llm.llm.reset_prefix_cache(reset_connector=True)
    computed = WORK[row.schedule].ask(engine.llm)
    found = WORK[row.schedule].ask(engine.llm)
    for answers in (computed, found):
        assert_same(answers, reference)
    assert all(answer.cached_tokens == 0 for answer in computed)
    assert all(answer.cached_tokens > 0 for answer in found)
