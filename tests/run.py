# SPDX-License-Identifier: Apache-2.0
"""Run the stages of `make test` one after the other; every stage runs, whatever the others did.

Usage: python tests/run.py [STAGE...]     (default: all of them, in order)

Each stage's output is shown and kept in build/test/<stage>.log. At the end: a table, and a last
line "N passed, N failed[, N skipped]" over all tests; a stage that fails without saying which test
failed (a build, say) counts as one failed test. The exit status is 0 only if nothing failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stages import STAGES, Command, Stage

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test"
PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
CTEST_TOTAL = re.compile(r"tests passed, (\d+) tests? failed out of (\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What came of one stage."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""

    def add_counts(self, output: list[str]) -> None:
        """Add the counts of a pytest or ctest run, if the output is of one."""
        for line in output:
            ctest = CTEST_TOTAL.search(line)
            if ctest:
                failed, total = int(ctest[1]), int(ctest[2])
                skipped = sum(1 for other in output if other.rstrip().endswith("(Skipped)"))
                self.failed += failed
                self.skipped += skipped
                self.passed += total - failed - skipped
        last = output[-1] if output else ""
        if re.search(r" in [\d.]+s", last):  # pytest's last line
            for number, word in PYTEST_COUNT.findall(last):
                if word.startswith(("failed", "error")):
                    self.failed += int(number)
                elif word in ("passed", "xpassed"):
                    self.passed += int(number)
                else:
                    self.skipped += int(number)


def execute(command: Command, log: Path) -> tuple[int, list[str]]:
    """Run a command, show and keep its output; returns status and lines."""
    print("$", " ".join(command.words), flush=True)
    lines = []
    environment = {**os.environ, **command.environment}
    with log.open("a", encoding="utf-8") as file:
        with subprocess.Popen(
            command.words,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "is ignored: it is neither a file" in line:  # pip, on package sources not there
                    continue
                sys.stdout.write(line)
                sys.stdout.flush()
                file.write(line)
                lines.append(COLOUR.sub("", line.rstrip("\n")))
        return process.returncode, [line for line in lines if line.strip()]


def run_stage(stage: Stage) -> Outcome:
    """Run the commands of a stage up to the first that fails."""
    outcome = Outcome()
    began = time.monotonic()
    missing = [path for path in stage.needs if not (ROOT / path).exists()]
    if missing:
        outcome.failed = 1
        outcome.note = f"{missing[0]} is missing"
        return outcome
    log = LOGS / f"{stage.name}.log"
    log.write_text("", encoding="utf-8")
    for command in stage.commands():
        status, output = execute(command, log)
        outcome.add_counts(output)
        if status != 0:
            outcome.failed = max(outcome.failed, 1)
            outcome.note = f"status {status}: {' '.join(command.words)[:70]}"
            break
    if outcome.passed + outcome.failed + outcome.skipped == 0:
        outcome.passed = 1
    outcome.seconds = time.monotonic() - began
    return outcome


def main() -> int:
    """Run the stages named on the command line, or all."""
    names = sys.argv[1:] or [stage.name for stage in STAGES]
    unknown = set(names) - {stage.name for stage in STAGES}
    if unknown:
        sys.exit(f"no such stage: {', '.join(unknown)}; there are: {[s.name for s in STAGES]}")
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    for stage in STAGES:
        if stage.name in names:
            print(f"\n=== {stage.name}: {stage.title}", flush=True)
            outcomes[stage.name] = run_stage(stage)

    print(f"\n{'stage':10} {'':4} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for name, one in outcomes.items():
        word = "FAIL" if one.failed else "ok"
        counts = f"{one.passed:7} {one.failed:7} {one.skipped:8} {one.seconds:8.1f}"
        print(f"{name:10} {word:4} {counts}  {one.note}".rstrip())
    total = [sum(getattr(o, key) for o in outcomes.values()) for key in ("passed", "failed")]
    skipped = sum(one.skipped for one in outcomes.values())
    print(f"\n{total[0]} passed, {total[1]} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
