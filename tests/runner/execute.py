# SPDX-License-Identifier: Apache-2.0
"""Run one command of a stage: show its output as it comes, keep it, and never hang."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 1500
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NOISE = "is ignored: it is neither a file"  # pip, on package sources that a machine lacks


@dataclass(frozen=True)
class Command:
    """One program to run from the repository's root."""

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    limit_seconds: float = LIMIT_SECONDS


def execute(command: Command, log: Path) -> tuple[int, list[str]]:
    """Run a command and return its status and its lines (no colours, none empty).

    A thread reads the output, so that a grandchild that outlives the command and holds the pipe
    cannot keep us. Past the limit the command's whole process group is killed, status 124.
    """
    print("$", " ".join(command.words), flush=True)
    process = subprocess.Popen(
        command.words,
        cwd=ROOT,
        env={**os.environ, **command.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        with log.open("a", encoding="utf-8") as file:
            for line in process.stdout:
                if NOISE not in line:
                    sys.stdout.write(line)
                    sys.stdout.flush()
                    file.write(line)
                    lines.append(COLOUR.sub("", line.rstrip("\n")))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        status = process.wait(command.limit_seconds)
    except subprocess.TimeoutExpired:
        print(f"no end after {command.limit_seconds:g} s: killed", flush=True)
        status = 124
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    reader.join(5)
    return status, [line for line in list(lines) if line.strip()]
