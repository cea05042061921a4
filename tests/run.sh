#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up the tools, then runs the stages named (default: all). The last line is "N passed, N failed[, N skipped]".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! bash scripts/setup.sh --tools-only; then
  printf '\n0 passed, 1 failed\n'
  exit 1
fi
# What the editable install compiles, the C++ tests link too: it is compiled once, if the compiler has one name.
if [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 CXX="${CXX:-g++}"
fi
exec "${LMCACHE_VENV:-.venv}/bin/python" -u tests/runner/run.py "$@"
