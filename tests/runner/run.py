# SPDX-License-Identifier: Apache-2.0
"""Run the stages of `make test` one after the other; every stage runs, whatever the others did.

Usage: python tests/runner/run.py [STAGE...]     (default: all but those that only run when named)

Each stage's output is shown and kept in build/test/<stage>.log. At the end: what failed, a table,
and a last line "N passed, N failed[, N skipped]" over all tests; a stage that fails without saying
which test failed (a build, say) counts as one failed test. The exit status is 0 only if nothing
failed.
"""

from __future__ import annotations

import signal
import sys
import time

from execute import ROOT, execute
from outcome import Outcome
from stages import STAGES, Stage

LOGS = ROOT / "build" / "test"


def run_stage(stage: Stage) -> Outcome:
    """Run the commands of a stage up to the first that fails."""
    outcome = Outcome()
    began = time.monotonic()
    failure = next((f"{path} is missing" for path in stage.needs if not (ROOT / path).exists()), "")
    log = LOGS / f"{stage.name}.log"
    log.write_text("", encoding="utf-8")
    for command in stage.commands() if not failure else []:
        try:
            status, output = execute(command, log)
        except OSError as error:
            failure = str(error)
            break
        outcome.add_counts(output)
        outcome.add_failures(output if status else [])
        if status != 0:
            failure = f"status {status}: {' '.join(command.words)[:70]}"
            break
    outcome.finish(failure)
    outcome.seconds = time.monotonic() - began
    return outcome


def main() -> int:
    """Run the stages named on the command line, or all."""
    names = sys.argv[1:] or [stage.name for stage in STAGES if not stage.only_named]
    unknown = set(names) - {stage.name for stage in STAGES}
    if unknown:
        sys.exit(f"no such stage: {', '.join(unknown)}; there are: {[s.name for s in STAGES]}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what runs, then us
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    for stage in STAGES:
        if stage.name in names:
            print(f"\n=== {stage.name}: {stage.title}", flush=True)
            outcomes[stage.name] = run_stage(stage)

    for name, one in outcomes.items():
        for line in one.failures:
            print(f"{name}: {line}")
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
