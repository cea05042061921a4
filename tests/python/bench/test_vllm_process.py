# SPDX-License-Identifier: Apache-2.0
"""The pipes and the ends of the process; that vLLM answers through them is tested in tests/vllm."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from lmcache.bench.vllm_process import Answer, VllmProcess
from lmcache.errors import UnavailableError


def test_a_process_that_does_not_come_up_is_an_error_naming_its_log(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with VllmProcess({"not": "the options"}, log) as process:
        with pytest.raises(UnavailableError, match=str(log)):
            process.wait_ready()
        with pytest.raises(UnavailableError, match=str(log)):
            process.run([1, 2, 3], 1)
    assert log.read_text()


def test_times_of_an_answer() -> None:
    answer = Answer(
        token_times_s=[0.5, 0.6, 0.9], token_ids=[1, 2, 3], prompt_tokens=3, cached_tokens=0
    )
    assert answer.ttft_s == 0.5
    assert answer.tpot_s == pytest.approx(0.2)


def test_it_starts_however_many_files_are_open(tmp_path: Path) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(20):
            opened.enter_context((tmp_path / "file").open("w"))
        log = tmp_path / "engine.log"
        with VllmProcess({"not": "the options"}, log) as process, pytest.raises(UnavailableError):
            process.wait_ready()
    assert "KeyError" in log.read_text()  # as far as the options
