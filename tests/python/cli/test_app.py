# SPDX-License-Identifier: Apache-2.0
"""The program: help without imports, one red line for a mistake, more with -v."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from lmcache.cli.commands import COMMANDS

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LMCACHE_")}


def _run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lmcache.cli", *arguments],
        env={**ENVIRONMENT, **environ},
        capture_output=True,
        text=True,
    )


def test_help_names_every_command() -> None:
    done = _run("--help")
    assert done.returncode == 0
    assert all(command.summary in done.stdout for command in COMMANDS.values())


def test_help_imports_no_command() -> None:
    code = (
        "import sys, lmcache.cli.app as program\n"
        "sys.argv = ['lmcache', '--help']\n"
        "try: program.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', [n for n in ('lmcache.cli.config', 'lmcache.cli.doctor', 'pydantic')"
        " if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str) -> None:
    done = _run(name, "--help")
    assert done.returncode == 0
    assert f"lmcache {name}" in done.stdout
    assert "--install-completion" not in done.stdout


def test_version() -> None:
    import lmcache

    assert _run("--version").stdout == f"lmcache {lmcache.__version__}\n"


def test_an_unknown_command() -> None:
    done = _run("doktor")
    assert done.returncode == 2
    assert "doktor" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_is_one_line() -> None:
    done = _run("config", "show", LMCACHE_CHUNK_SIZE="x" * 300)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: chunk_size = ")


def test_verbose_shows_where_it_arose() -> None:
    done = _run("-v", "config", "show", LMCACHE_CHUNK_SIZE="x")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: chunk_size")


def test_a_native_library_that_does_not_load_is_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lmcache._native", None)
    monkeypatch.delattr("lmcache._native", raising=False)
    for name in [name for name in sys.modules if name.startswith(("lmcache.cli.status",))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lmcache.cli.node", raising=False)
    done = run("status")
    assert done.status == 2
    assert "the native library of lmcache cannot be loaded" in done.err.replace("\n", " ")
