# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by setup.sh: which Python, and which Debian packages are missing for it.

# A Python from 3.10 to 3.13 that starts (a version switcher may offer names that do not).
python_works() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# Prints the path of the Python to use, or nothing.
choose_python() {
  local name
  if [ -n "${LMCACHE_PYTHON:-}" ]; then
    python_works "$LMCACHE_PYTHON" || die "LMCACHE_PYTHON=$LMCACHE_PYTHON is no Python 3.10 to 3.13 that starts"
    "$LMCACHE_PYTHON" -c 'import sys; print(sys.executable)'
    return
  fi
  for name in python3.11 python3.13 python3.12 python3.10 python3; do
    if command -v "$name" >/dev/null && python_works "$name"; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
}

# True if PYTHON can make a virtual environment and build an extension module.
python_complete() {
  "$1" -c 'import ensurepip, os, sysconfig, venv
assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' >/dev/null 2>&1
}

# The package with libFuzzer and the sanitizers of the distribution's clang ("libclang-rt-14-dev"), if it is one of its
# own and the package lists are there.
fuzzer_package() {
  local version
  version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
  [ -z "$version" ] || apt-cache show "libclang-rt-$version-dev" 2>/dev/null | sed -n 's/^Package: //p' | head -1
}

# The package with libcurl.so.4, which newer distributions call libcurl4t64. Mooncake's client needs it, libibverbs1 and
# libnuma1.
curl_package() {
  local name
  for name in libcurl4t64 libcurl4; do
    if dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed'; then
      echo "$name"
      return
    fi
  done
  if [ -n "$(apt-cache show libcurl4t64 2>/dev/null)" ]; then echo libcurl4t64; else echo libcurl4; fi
}

# missing_packages PYTHON [--tools-only]: prints the Debian packages that are not installed yet.
missing_packages() {
  local python=$1 wanted=(clang g++ git libbenchmark-dev libgtest-dev libibverbs1 libnuma1 libssl-dev liburing-dev make ninja-build redis-server) name
  if [ -z "$python" ] || ! python_complete "$python"; then
    wanted+=(python3 python3-dev python3-venv)
  fi
  # Only the tests use these; npm may also come with a node from elsewhere.
  [ "${2:-}" != --tools-only ] || command -v ccache >/dev/null || wanted+=(ccache)
  [ "${2:-}" != --tools-only ] || command -v npm >/dev/null || wanted+=(nodejs npm)
  for name in "${wanted[@]}" "$(curl_package)" $(fuzzer_package); do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$name"
  done
}

install_packages() {
  # RUNLEVEL: a redis-server that comes for the tests is not started as a service.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  apt-get update && apt-get install -y --no-install-recommends "$@" || return
  local fuzzer
  fuzzer=$(fuzzer_package)
  [ -z "$fuzzer" ] || apt-get install -y --no-install-recommends "$fuzzer"
}
