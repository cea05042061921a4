# SPDX-License-Identifier: Apache-2.0
"""Makes `lmcache/_native.pyi` out of the compiled module.

    python tests/support/native_stub.py > python/lmcache/_native.pyi

Run it when a binding changes; a test compares.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

MODULE = "lmcache._native"
PROJECT = Path(__file__).parents[2]
STUB = PROJECT / "python" / "lmcache" / "_native.pyi"

_HEAD = f"""\
# SPDX-License-Identifier: Apache-2.0
# Made by tests/support/{Path(__file__).name}. Change the bindings, not this file.
"""
# What Python passes for an int. pybind11 writes out what it would take, at the cost of every line.
_SHORTER = {
    "typing.SupportsInt | typing.SupportsIndex": "int",
    "__exit__(self, *args)": "__exit__(self, *args: object)",
    "def __enter__(self) -> typing.Any": "def __enter__(self) -> Hit",
}


def generate() -> str:
    """Return the stub of the module that this Python imports."""
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-m", "pybind11_stubgen", MODULE, "-o", folder, "--exit-code"]
        subprocess.run(run, check=True, capture_output=True, text=True)
        made = Path(folder, *MODULE.split(".")).with_suffix(".pyi")
        text = made.read_text(encoding="utf-8")
        for long, short in _SHORTER.items():
            text = text.replace(long, short)
        made.write_text(_HEAD + text, encoding="utf-8")
        config = ["--config", PROJECT / "pyproject.toml"]
        for step in (["check", "--fix", "--select", "I"], ["format"]):
            tidy = [tools / "ruff", *step, *config, made]
            subprocess.run(tidy, check=True, capture_output=True, text=True)
        return made.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(generate())
