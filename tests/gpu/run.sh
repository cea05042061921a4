#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA GPU, in one command under 8 minutes: builds with LMCACHE_CUDA=ON, runs the conformance suite of
# copiers and the kernels on the real driver, then `lmcache bench gpu`. Nothing may be skipped. Output: build/gpu.
# Takes .venv/bin/python if it is there, else python3 with what is missing installed into build/gpu/venv.
# Exit status: 0 all passed, 1 not, 2 no GPU or no nvcc, 124 out of time.
set -euo pipefail
LIMIT_SECONDS=470
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

if ! gpus=$(nvidia-smi -L 2>/dev/null) || [[ $gpus != *GPU* ]]; then
  echo "tests/gpu/run.sh: no NVIDIA GPU here (nvidia-smi lists none): nothing was run" >&2
  exit 2
fi
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [ ! -x "$nvcc" ]; then
  echo "tests/gpu/run.sh: no nvcc (set CUDACXX or PATH): nothing was run" >&2
  exit 2
fi
if [ -z "${LMCACHE_GPU_RUN:-}" ]; then
  status=0
  LMCACHE_GPU_RUN=1 timeout --kill-after=5 "$LIMIT_SECONDS" bash "${BASH_SOURCE[0]}" "$@" || status=$?
  [ "$status" -ne 124 ] || echo "tests/gpu/run.sh: not done after $LIMIT_SECONDS s" >&2
  exit "$status"
fi

step() { printf '== %3d s: %s\n' "$SECONDS" "$*"; }
build=build/gpu
mkdir -p "$build"
echo "$gpus"

step "Python and tools"
needs=(cmake ninja pybind11 numpy prometheus-client "pydantic>=2" pyyaml rich typer)
if [ -x .venv/bin/python ]; then
  python=$root/.venv/bin/python
elif python3 -c 'import numpy, prometheus_client, pybind11, pydantic, rich, typer, yaml' 2>/dev/null && command -v cmake ninja >/dev/null; then
  python=$(command -v python3)
else
  [ -x "$build/venv/bin/python" ] || python3 -m venv --system-site-packages "$build/venv"
  python=$root/$build/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check "${needs[@]}"
fi
PATH=$(dirname "$python"):$PATH

step "build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLMCACHE_CUDA=ON -DLMCACHE_TESTS=ON -DLMCACHE_PYTHON=ON \
  -DCMAKE_INSTALL_LIBDIR=lib -DPython_EXECUTABLE="$python" -DLMCACHE_NVCC="$nvcc" >"$build/configure.log" ||
  { cat "$build/configure.log" && exit 1; }
cmake --build "$build" --target lmcache _native cuda_tests device_tests >"$build/build.log" 2>&1 ||
  { tail -50 "$build/build.log" && exit 1; }
cp -r python/. "$build/site"
cmake --install "$build" --prefix "$build/site/lmcache" >>"$build/build.log"

# A skip would mean that nothing was tested: everything that is named here needs the GPU and has it.
on_gpu() {
  step "$1, $2"
  "$build/tests/cpp/$1" --gtest_brief=1 --gtest_filter="$2" | tee "$build/$1.log"
  grep -Eq '\[  PASSED  \] [1-9][0-9]* test' "$build/$1.log"
  if grep -q 'SKIPPED' "$build/$1.log"; then
    echo "skipped, but there is a GPU" && return 1
  fi
}
on_gpu cuda_tests '*DeviceKernels*/Real*'
on_gpu device_tests 'Gpu/*'

step "lmcache bench gpu"
PYTHONPATH=$build/site "$python" -c 'from lmcache.cli import main; main()' bench gpu --json | tee "$build/bench.json"
PYTHONPATH=$build/site "$python" -c 'from lmcache.cli import main; main()' bench gpu
step "all passed; compare with docs/gpu.md"
