# SPDX-License-Identifier: Apache-2.0
"""Configure examples/cpp_embed as its README says: lmcache_DIR names the CMake package.

Usage: python configure_example.py BUILD PACKAGE CMAKE   (PACKAGE "@wheel": ask lmcache.cmake_dir())
"""

from __future__ import annotations

import subprocess
import sys


def main() -> int:
    """Run cmake."""
    build, package, cmake = sys.argv[1:]
    if package == "@wheel":
        import lmcache

        package = str(lmcache.cmake_dir())
    found = [f"-Dlmcache_DIR={package}", f"-DPython_EXECUTABLE={sys.executable}"]
    warnings = ["-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror"]
    command = [cmake, "-S", "examples/cpp_embed", "-B", build, "-G", "Ninja", *found, *warnings]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
