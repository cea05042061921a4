# SPDX-License-Identifier: Apache-2.0
"""The installed library: needs nothing of CUDA to be loaded, and holds the kernels all the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lmcache


@pytest.fixture(scope="module")
def library():
    return Path(lmcache.cmake_dir()).parents[1] / "liblmcache.so"


def test_nothing_of_cuda_is_linked(library):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf")
    listing = subprocess.check_output([readelf, "-dW", library], text=True)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", listing)
    assert "libc.so.6" in needed
    assert not [name for name in needed if re.search("cuda|nvidia|nvrtc", name)]


def test_a_build_where_nvcc_is_holds_the_kernels(library):
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc in PATH: the library was built without kernels")
    content = library.read_bytes()
    assert b".text.lmcache_copy_entries" in content
    assert b"\n.version 8.0\n" in content
