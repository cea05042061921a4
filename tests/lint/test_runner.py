# SPDX-License-Identifier: Apache-2.0
"""The runner of `make test` counts right and cannot pass over a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import fuzz
import pytest
from execute import Command, execute
from outcome import Outcome
from run import run_stage
from skip_reasons import reasons
from stages import STAGES, Stage

CTEST = ["91% tests passed, 1 tests failed out of 11", "	 10 - base.X (Skipped)"]


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (["100% tests passed, 0 tests failed out of 9"], (9, 0, 0)),
        (["100% tests passed out of 9"], (9, 0, 0)),
        (CTEST, (9, 1, 1)),
        (["..", "3 failed, 4 passed, 2 skipped, 1 error in 2.01s"], (4, 4, 2)),
        (["5 passed, 1 xfailed in 0.52s (0:00:00)"], (5, 0, 1)),
        (["7 passed"], (0, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_counts(output, counts):
    outcome = Outcome()
    outcome.add_counts(output)
    assert (outcome.passed, outcome.failed, outcome.skipped) == counts


CTEST_LINES = """
      Start 1: base.A
1/3 Test #1: base.A ...............   Passed    0.01 sec
2/3 Test #2: base.B ...............***Failed    0.02 sec
b.cpp:7: Failure
      Start 3: base.C
3/3 Test #3: base.C ...............***Skipped   0.00 sec
why
66% tests passed, 1 tests failed out of 3
"""


def test_what_failed_is_named():
    outcome = Outcome()
    outcome.add_failures(CTEST_LINES.splitlines())
    outcome.add_failures(["FAILED tests/x.py::test_y - assert 0", "FAILED to open", "1 failed"])
    assert [line.split()[0] for line in outcome.failures] == ["2/3", "b.cpp:7:", "FAILED"]
    assert outcome.failures[-1] == "FAILED tests/x.py::test_y - assert 0"


def stage(*codes: str, needs: tuple[str, ...] = ()) -> Stage:
    commands = [Command([sys.executable, "-c", code]) for code in codes]
    return Stage("self-test", "", lambda: commands, needs)


@pytest.fixture(autouse=True)
def logs(monkeypatch, tmp_path):
    monkeypatch.setattr("run.LOGS", tmp_path)
    return tmp_path


def test_stage_that_counts_nothing_is_one_test():
    assert run_stage(stage("print('built')")).passed == 1


def test_failed_command_stops_the_stage_and_counts(logs):
    outcome = run_stage(stage("exit(3)", "print('not reached')"))
    assert (outcome.passed, outcome.failed) == (0, 1)
    assert "status 3" in outcome.note
    assert "not reached" not in (logs / "self-test.log").read_text()


def test_failure_after_passed_tests_counts():
    outcome = run_stage(stage("print('2 passed in 0.1s'); exit(1)"))
    assert (outcome.passed, outcome.failed) == (2, 1)


def test_missing_folder_is_a_failure():
    outcome = run_stage(stage("", needs=("no/such/folder",)))
    assert (outcome.failed, outcome.note) == (1, "no/such/folder is missing")


def test_program_that_does_not_exist_is_a_failure():
    broken = Stage("self-test", "", lambda: [Command(["no-such-program"])])
    assert run_stage(broken).failed == 1


def test_endless_command_is_killed(logs):
    endless = Command(
        [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"],
        limit_seconds=2,
    )
    assert execute(endless, logs / "x.log")[0] == 124


def test_killed_runner_leaves_nothing_behind(repository, logs):
    sleeper = (
        f"import os, time; open({str(logs / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    runner = (
        "import sys, pathlib, run, stages, execute;"
        f"run.LOGS = pathlib.Path({str(logs)!r});"
        f"command = execute.Command([sys.executable, '-c', {sleeper!r}]);"
        "run.STAGES = [stages.Stage('x', '', lambda: [command])];"
        "sys.argv = ['run']; sys.exit(run.main())"
    )
    process = subprocess.Popen([sys.executable, "-c", runner], cwd=repository / "tests/runner")
    pid_file = logs / "pid"
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_process_left_behind_does_not_hold_the_runner(logs):
    began = time.monotonic()
    status, lines = execute(Command(["sh", "-c", "sleep 30 & echo done"]), logs / "x.log")
    assert (status, lines) == (0, ["done"])
    assert time.monotonic() - began < 20


def test_skip_reasons_are_found():
    log = "[ RUN      ] A.B\n/x/a_test.cpp:3: Skipped\nno such device\n\n[  SKIPPED ] A.B (0 ms)\n"
    assert reasons(log) == ["A.B: no such device"]


def fuzz_counts(capsys) -> tuple[int, int, int]:
    outcome = Outcome()
    outcome.add_counts([line for line in capsys.readouterr().out.splitlines() if line.strip()])
    return outcome.passed, outcome.failed, outcome.skipped


def test_fuzzing_without_a_compiler_is_one_skipped_test(monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "COMPILER", "no-such-compiler")
    assert fuzz.main() == 0
    assert fuzz_counts(capsys) == (0, 0, 1)


@pytest.mark.parametrize(
    ("programs", "counts"),
    [
        ({"fuzz_good": "exit 0"}, (1, 0, 0)),
        ({"fuzz_good": "exit 0", "fuzz_bad": "echo found >&2; exit 77"}, (1, 1, 0)),
        ({}, (0, 1, 0)),
    ],
)
def test_fuzz_targets_are_counted(monkeypatch, capsys, tmp_path, programs, counts):
    folder = tmp_path / "tests" / "fuzz"
    folder.mkdir(parents=True)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(fuzz, "COMPILER", "sh")
    monkeypatch.setattr(sys, "argv", ["fuzz.py", str(tmp_path)])
    assert fuzz.main() == (1 if counts[1] else 0)
    assert fuzz_counts(capsys) == counts


def test_every_stage_has_its_own_name():
    assert len({one.name for one in STAGES}) == len(STAGES)
