# SPDX-License-Identifier: Apache-2.0
"""Programs of the CUDA toolkit, from PyPI or where nvcc lies, and the kernels that were built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "dev" / "cuda"
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.a-z]+)")


def from_package(package: str, program: str) -> Path | None:
    """Return a program that a Python package of NVIDIA's brought."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == program]
    return found[0] if found and found[0].exists() else None


def tool(program: str, package: str) -> Path:
    """Return a program, by its package, by PATH or beside nvcc; skip the test without one."""
    nvcc = shutil.which("nvcc")
    toolkits = [Path("/usr/local/cuda/bin")] + ([Path(nvcc).resolve().parent] if nvcc else [])
    found = from_package(package, program) or shutil.which(program)
    for folder in toolkits:
        found = found or shutil.which(program, path=str(folder))
    if not found:
        pytest.skip(f"no {program}: neither {package} nor a CUDA toolkit is installed")
    return Path(found)


def built(name: str) -> Path:
    """Return a file of the target lmcache_kernels; skip the test where nvcc built none."""
    path = BUILT / name
    if not path.exists():
        pytest.skip(f"no {path.relative_to(ROOT)}: the dev build has no CUDA")
    return path


def run(program: Path, *arguments: str | Path) -> str:
    """Run a program and return what it printed; cuobjdump needs nvdisasm in PATH."""
    folders = [str(program.parent)]
    disassembler = from_package("nvidia-cuda-nvdisasm", "nvdisasm")
    if disassembler:
        folders.append(str(disassembler.parent))
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        env={**os.environ, "PATH": os.pathsep.join([*folders, os.environ["PATH"]])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def resources(listing: str) -> dict[tuple[str, str], dict[str, int]]:
    """Read `cuobjdump -res-usage`: what each kernel uses, by (architecture, kernel)."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    arch = kernel = ""
    for line in listing.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r" Function (\w+):", line):
            kernel = match[1]
        elif kernel and (used := dict(re.findall(r"\b([A-Z]+):(\d+)", line))):
            found[arch, kernel] = {name: int(value) for name, value in used.items()}
            kernel = ""
    return found


def instructions(listing: str) -> dict[tuple[str, str], list[str]]:
    """Read `cuobjdump -sass`: the opcodes of each kernel, by (architecture, kernel)."""
    found: dict[tuple[str, str], list[str]] = {}
    arch = kernel = ""
    for line in listing.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s+Function : (\w+)", line):
            kernel = match[1]
        elif match := INSTRUCTION.match(line):
            found.setdefault((arch, kernel), []).append(match[1])
    return found
