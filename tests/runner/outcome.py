# SPDX-License-Identifier: Apache-2.0
"""What came of a stage, counted out of the last lines of pytest and ctest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PYTEST_END = re.compile(r" in [\d.]+s\b")
PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
# "91% tests passed, 1 tests failed out of 11"; newer versions leave out "0 tests failed"
PYTEST_FAILED = re.compile(r"(?:FAILED|ERROR) \S+::")
# "12/99 Test #12: base.X ......***Failed    0.02 sec", before what the test printed
CTEST_FAILED = re.compile(r"\s*\d+/\d+ Test +#\d+: .*\*\*\*(?!Skipped|Not Run)")
CTEST_NEXT = re.compile(r"\s*(?:Start +\d+: |\d+/\d+ Test +#)|\d+% tests passed")
SHOWN_LINES = 30  # of what a failed test printed, the last ones
CTEST_TOTAL = re.compile(r"\d+% tests passed(?:, (\d+) tests? failed)? out of (\d+)")


@dataclass
class Outcome:
    """Counts of one stage, and why it stopped early."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""
    failures: list[str] = field(default_factory=list)  # lines

    def add_counts(self, output: list[str]) -> None:
        """Add the counts of a pytest or ctest run, if `output` (lines, none empty) is of one."""
        for line in output:
            total = CTEST_TOTAL.search(line)
            if total:
                failed = int(total[1] or 0)
                skipped = sum(1 for other in output if other.rstrip().endswith("(Skipped)"))
                self.failed += failed
                self.skipped += skipped
                self.passed += int(total[2]) - failed - skipped
        if output and PYTEST_END.search(output[-1]):
            for number, word in PYTEST_COUNT.findall(output[-1]):
                if word.startswith(("failed", "error")):
                    self.failed += int(number)
                elif word in ("passed", "xpassed"):
                    self.passed += int(number)
                else:
                    self.skipped += int(number)

    def add_failures(self, output: list[str]) -> None:
        """Add the names of the tests that failed in a pytest or ctest run, and what those of ctest
        printed.
        """
        self.failures += [line for line in output if PYTEST_FAILED.match(line)]
        for at, line in enumerate(output):
            if CTEST_FAILED.match(line):
                printed = output[at + 1 :]
                end = next(
                    (i for i, it in enumerate(printed) if CTEST_NEXT.match(it)), len(printed)
                )
                self.failures += [line, *printed[max(0, end - SHOWN_LINES) : end]]

    def finish(self, failure: str) -> None:
        """Count a failure that named no test, and a stage that counted nothing, as one test."""
        if failure:
            self.note = failure
            self.failed = max(self.failed, 1)
        elif self.passed + self.failed + self.skipped == 0:
            self.passed = 1
