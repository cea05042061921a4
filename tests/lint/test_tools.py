# SPDX-License-Identifier: Apache-2.0
"""ruff, mypy --strict and clang-format accept this repository, and complain when they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tree_checks import rules, tree

TOOLS = Path(sys.executable).parent
PYTHON_FOLDERS = ("python", "tests", "scripts", "examples")
LICENCE = f"# {rules.SPDX}\n"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    tool = TOOLS / str(command[0])
    return subprocess.run(
        [str(tool), *map(str, command[1:])], cwd=cwd, capture_output=True, text=True, check=False
    )


def assert_clean(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def python_folders(repository: Path) -> list[str]:
    return [folder for folder in PYTHON_FOLDERS if (repository / folder).is_dir()]


def test_ruff_check(repository):
    assert_clean(run("ruff", "check", *python_folders(repository), cwd=repository))


def test_ruff_format(repository):
    assert_clean(run("ruff", "format", "--check", *python_folders(repository), cwd=repository))


def test_mypy(repository):
    assert_clean(run("mypy", "python/lmcache", cwd=repository))


def test_clang_format(repository):
    sources = [p for p in tree.files(repository) if Path(p).suffix in rules.CPP_SUFFIXES]
    assert sources
    done = run("clang-format", "--dry-run", "-Werror", *sources, cwd=repository)
    unformatted = sorted(
        {line.split(":")[0] for line in done.stderr.splitlines() if "error:" in line}
    )
    assert unformatted == [], "run `make format`"
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "import os\n",  # unused, and no future import
        "from __future__ import annotations\n\nfrom . import x\n\nprint(x)\n",
        f'from __future__ import annotations\n\nprint("{"x " * 50}")\n',
    ],
)
def test_ruff_check_complains(plant, repository, source):
    root = plant({"x.py": LICENCE + source})
    done = run("ruff", "check", "--config", repository / "pyproject.toml", "x.py", cwd=root)
    assert done.returncode == 1, done.stdout


def test_ruff_format_complains(plant, repository):
    root = plant({"x.py": LICENCE + "x  =  'a'\n"})
    config = repository / "pyproject.toml"
    done = run("ruff", "format", "--check", "--config", config, "x.py", cwd=root)
    assert done.returncode == 1, done.stdout


def test_mypy_complains(plant, repository):
    root = plant({"x.py": "def double(x):\n    return x + x\n"})
    done = run("mypy", "--config-file", repository / "pyproject.toml", "x.py", cwd=root)
    assert done.returncode == 1
    assert "no-untyped-def" in done.stdout


def test_clang_format_complains(plant, repository):
    style = (repository / ".clang-format").read_text(encoding="utf-8")
    root = plant({".clang-format": style, "x.cpp": "int  x=1 ;\n"})
    assert run("clang-format", "--dry-run", "-Werror", "x.cpp", cwd=root).returncode == 1
