# SPDX-License-Identifier: Apache-2.0
"""cmake/cuda.cmake: AUTO, ON and OFF, with an nvcc that works and one that does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = """cmake_minimum_required(VERSION 3.25)
project(options LANGUAGES NONE)
include({root}/cmake/cuda.cmake)
"""


@pytest.fixture
def configure(tmp_path):
    """Configure a project that is nothing but cuda.cmake, with an nvcc of a given exit status."""

    def run(cuda: str, nvcc_status: int) -> tuple[int, str]:
        nvcc = tmp_path / "nvcc"
        nvcc.write_text(f"#!/bin/sh\necho an old compiler >&2\nexit {nvcc_status}\n")
        nvcc.chmod(0o755)
        (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(root=ROOT))
        done = subprocess.run(
            ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DLMCACHE_CUDA={cuda}"],
            env={**os.environ, "CUDACXX": str(nvcc)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, " ".join(done.stdout.split())

    return run


@pytest.mark.parametrize("cuda", ["AUTO", "ON"])
def test_an_nvcc_that_works_is_taken(configure, cuda):
    status, output = configure(cuda, 0)
    assert status == 0, output
    assert "lmcache: CUDA ON" in output


def test_auto_does_without_an_nvcc_that_fails_and_says_why(configure):
    status, output = configure("AUTO", 1)
    assert status == 0, output
    assert "no CUDA kernels: " in output
    assert "an old compiler" in output
    assert "lmcache: CUDA OFF" in output


def test_on_insists(configure):
    status, output = configure("ON", 1)
    assert status != 0
    assert "LMCACHE_CUDA=ON, but " in output
    assert "an old compiler" in output


def test_off_asks_no_compiler(configure):
    status, output = configure("OFF", 1)
    assert status == 0, output
    assert "lmcache: CUDA OFF" in output
    assert "an old compiler" not in output


def test_other_values_are_refused(configure):
    status, output = configure("YES", 0)
    assert status != 0
    assert "use AUTO, ON or OFF" in output


@pytest.fixture
def embed(tmp_path):
    """Embed two files; return cmake's status, its output and the header."""

    def run(ptx: str, name: str = "bytes.hpp") -> tuple[int, str, str]:
        (tmp_path / "a.fatbin").write_bytes(bytes([0, 10, 255, 59, 36]))
        (tmp_path / "a.ptx").write_text(ptx)
        output = tmp_path / name
        words = [f"-DOUTPUT={output}", f"-DFATBIN={tmp_path}/a.fatbin", f"-DPTX={tmp_path}/a.ptx"]
        done = subprocess.run(
            ["cmake", *words, "-DPTX_VERSION=8.0", "-P", ROOT / "cmake" / "embed_bytes.cmake"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout, output.read_text() if output.exists() else ""

    return run


def test_bytes_are_embedded_and_the_version_is_lowered(embed, tmp_path):
    status, output, header = embed("//\n.version 9.0\n.target sm_75\nmov a; b; [c]\n")
    assert status == 0, output
    assert "kFatbin[] = {0x00,0x0a,0xff,0x3b,0x24,};" in header
    expected = b"//\n.version 8.0\n.target sm_75\nmov a; b; [c]\n"
    assert (tmp_path / "kernels.low.ptx").read_bytes() == expected
    assert "kPtx[] = {" + "".join(f"0x{byte:02x}," for byte in expected) + "0x00};" in header


def test_the_same_files_give_the_same_header(embed):
    ptx = "//\n.version 9.0\n.target sm_75\n"
    assert embed(ptx, "one.hpp")[2] == embed(ptx, "two.hpp")[2]


@pytest.mark.parametrize(
    ("ptx", "complaint"), [("//\n.version 7.8\n", "is older than 8.0"), ("//\n", "no .version")]
)
def test_ptx_that_cannot_be_lowered_is_refused(embed, ptx, complaint):
    status, output, header = embed(ptx)
    assert status != 0
    assert complaint in " ".join(output.split())
    assert not header


def test_the_gpu_script_runs_nothing_without_a_gpu(tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        ["bash", ROOT / "tests" / "gpu" / "run.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "no NVIDIA GPU here" in done.stderr
    assert not done.stdout
