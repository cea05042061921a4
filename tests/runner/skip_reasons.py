# SPDX-License-Identifier: Apache-2.0
"""Print why C++ tests were skipped: ctest counts them, but does not say.

Usage: python skip_reasons.py BUILD
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SKIPPED = re.compile(r": Skipped\n(.*?)\n\[  SKIPPED \] (\S+)", re.DOTALL)


def reasons(log: str) -> list[str]:
    """Return "test: reason" for each skipped test in ctest's log."""
    return [f"{match[2]}: {match[1].strip()}" for match in SKIPPED.finditer(log)]


def main() -> None:
    """Print them."""
    log = Path(sys.argv[1]) / "Testing" / "Temporary" / "LastTest.log"
    for reason in reasons(log.read_text(encoding="utf-8", errors="replace")):
        print(f"SKIPPED {reason}")


if __name__ == "__main__":
    main()
