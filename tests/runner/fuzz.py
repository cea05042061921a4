# SPDX-License-Identifier: Apache-2.0
"""Run every fuzz target of a build for a while, two at a time; the last line counts like pytest's.

Usage: python fuzz.py BUILD

LMCACHE_FUZZ_SECONDS says how long each runs (default 60). An input that breaks a target is kept in
BUILD/found/. Without clang there is nothing to run: one test is skipped, and the reason printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMPILER = "clang++"
AT_A_TIME = 2
MOST_BYTES = 16384


def seconds() -> int:
    """Return how long each target runs."""
    return int(os.environ.get("LMCACHE_FUZZ_SECONDS", "60"))


def targets(build: Path) -> list[Path]:
    """Return the programs of a build."""
    found = (build / "tests" / "fuzz").glob("fuzz_*")
    return sorted(path for path in found if path.is_file() and os.access(path, os.X_OK))


def run(target: Path, found: Path, limit_seconds: int) -> tuple[bool, str]:
    """Run one target; return whether it held, and what it said at the end."""
    options = [
        f"-max_total_time={limit_seconds}",
        f"-max_len={MOST_BYTES}",
        f"-artifact_prefix={found}/{target.name}-",
        "-print_final_stats=1",
        "-timeout=20",
    ]
    done = subprocess.run(
        [str(target), *options],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit_seconds + 120,
        check=False,
    )
    lines = done.stderr.splitlines()
    if done.returncode != 0:
        return False, "\n".join(lines[-40:])
    runs = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
    return True, f"{runs} inputs"


def main() -> int:
    """Run all targets; return 1 if one failed."""
    if not shutil.which(COMPILER):
        print(f"SKIPPED fuzz: there is no {COMPILER}")
        print("1 skipped in 0.00s")
        return 0
    build = Path(sys.argv[1])
    found = build / "found"
    found.mkdir(exist_ok=True)
    began = time.monotonic()
    programs = targets(build)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda one: run(one, found, seconds()), programs))
    for program, (held, text) in zip(programs, results, strict=True):
        print(f"{program.name}: {'held' if held else 'FAILED'}, {text}")
    passed = sum(held for held, _ in results)
    failed = len(results) - passed + (0 if results else 1)
    print(f"{failed} failed, {passed} passed in {time.monotonic() - began:.2f}s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
