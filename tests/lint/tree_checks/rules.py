# SPDX-License-Identifier: Apache-2.0
"""The rules as data. A lower rank is a lower layer; a file depends on lower ranks only."""

from __future__ import annotations

CPP_RANK = {
    "base": 0,
    "config": 1,
    "key": 1,
    "layout": 1,
    "metrics": 1,
    "memory": 2,
    "index": 2,
    "policy": 2,
    "codec": 2,
    "io": 2,
    "net": 2,
    "cuda": 2,
    "device": 3,
    "tier": 4,
    "engine": 5,
    "server": 6,
    "capi": 6,
}
# A unit is the first folder below one of these; cuda/ is a unit itself.
CPP_ROOTS = ("include/lmcache", "cpp")
# Folders below these units never include each other: a tier knows nothing of another tier.
CPP_ISOLATED = ("tier", "server")
# These see public headers only.
CPP_PUBLIC_ONLY = ("include/", "bindings/", "examples/")
# Which headers (regular expression) only these paths may include.
CPP_CONFINED = {
    r"^(Python\.h|pybind11/)": ("bindings/",),
    # cuda/x.hpp is ours: kernels and their arguments as plain data; <cuda/atomic> is NVIDIA's
    r"^(cuda|cuda_\w+|driver_types)(\.h$|/(?!\w+\.hpp$))": (
        "cuda/",
        "cpp/device/cuda_",
        "cpp/memory/pinned_cuda",
    ),
    r"^liburing": ("cpp/io/uring_",),
    r"^(sys/socket|sys/un|sys/epoll|netdb|netinet/.*|arpa/.*)(\.h)?$": ("cpp/net/", "tests/cpp/"),
    r"^openssl/(ssl|tls1|bio|x509.*)\.h": ("cpp/net/", "tests/cpp/net/"),
    r"^openssl/": ("cpp/base/", "cpp/key/", "cpp/net/", "tests/cpp/"),
    r"^(zstd|lz4.*)\.h": ("cpp/codec/",),
    r"^(gtest|gmock|benchmark)/": ("tests/",),
}

PYTHON_ROOT = "python"
PYTHON_PACKAGE = "lmcache"
PYTHON_RANK = {
    "_native": 0,
    "errors": 0,
    "utils": 0,  # dictated, see below
    "v1": 0,
    "types": 1,
    "config": 1,
    "observe": 2,
    "remote": 2,  # clients of stores, which an engine opens
    "engine": 3,
    "integration": 4,
    "server": 4,
    "router": 4,
    "controller": 4,
    "bench": 4,
    "cli": 5,
    "__main__": 6,
}
PYTHON_ISOLATED = ("integration",)
# Which packages only these modules (and what lies below them) may import.
PYTHON_CONFINED = {
    "torch": ("lmcache.integration.vllm", "lmcache.bench"),
    "vllm": ("lmcache.integration.vllm",),
    "prometheus_client": ("lmcache.observe",),
}

# Names that vLLM imports as they are, so they may sound as they do. They hold translations of a few
# lines; one test file may cover all of them.
DICTATED_PATHS = (
    "python/lmcache/utils.py",
    "python/lmcache/v1/",
    "python/lmcache/integration/vllm/lmcache_connector_v1.py",
    "python/lmcache/integration/vllm/utils.py",
    "python/lmcache/integration/vllm/vllm_v1_adapter.py",
)
DICTATED_TESTS = (
    "tests/python/integration/vllm/test_dictated_paths.py",
    "tests/vllm/test_dictated_paths.py",
)

MAX_LINES = 400
# Written by a program out of other files of the tree, so nobody can make them shorter.
GENERATED = ("python/lmcache/_native.pyi",)
FORBIDDEN_WORDS = {"utils", "util", "common", "misc", "helpers", "helper", "manager", "v1"}
SPDX = "SPDX-License-Identifier: Apache-2.0"
CPP_SUFFIXES = {".cpp", ".hpp", ".h", ".cu", ".cuh"}
PYTHON_SUFFIXES = {".py", ".pyi"}
SOURCE_SUFFIXES = CPP_SUFFIXES | PYTHON_SUFFIXES | {".sh", ".cmake", ".toml", ".yaml", ".yml"}
SOURCE_NAMES = {"CMakeLists.txt", "Makefile", "Dockerfile", ".ci/run"}
# Folders that hold no sources of ours.
SKIPPED_FOLDERS = {".git", ".venv", "build", "dist", "shared", "node_modules", "__pycache__"}
