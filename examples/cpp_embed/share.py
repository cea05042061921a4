# SPDX-License-Identifier: Apache-2.0
"""One segment, a Python process and a C++ process: each reads what the other one stored.

python share.py PATH_OF_cpp_embed
"""

from __future__ import annotations

import subprocess
import sys
import uuid

import numpy as np

from lmcache import LMCacheEngine, _native
from lmcache.types import KVGeometry

# The numbers of main.cpp.
LAYERS, TOKENS, HEADS, HEAD_DIM = 4, 600, 2, 16
GEOMETRY = KVGeometry(layers=LAYERS, kv_heads=HEADS, head_dim=HEAD_DIM, dtype="float32")
IDS = (np.arange(TOKENS) * 7919 + 13) % 32000
SIZE = LAYERS * 2 * TOKENS * HEADS * HEAD_DIM
KV = ((np.arange(SIZE) % 4093) * 0.5).astype(np.float32).reshape(GEOMETRY.shape(TOKENS))


def config(segment: str) -> dict[str, object]:
    """Return what main.cpp opens its engine with."""
    return {"segment": segment, "max_local_cpu_size": 0.064}


def python_to_cpp(program: str, segment: str) -> None:
    """Store here, read back over there, while both have the segment mapped."""
    with LMCacheEngine(config(segment), model="cpp-embed", geometry=GEOMETRY) as cache:
        assert cache.store(IDS, KV) == TOKENS
        subprocess.run([program, "load", segment], check=True)


def cpp_to_python(program: str, segment: str) -> None:
    """Store over there; read back here after that process has ended."""
    subprocess.run([program, "store", segment], check=True)
    out = np.zeros_like(KV)
    with LMCacheEngine(config(segment), model="cpp-embed", geometry=GEOMETRY) as cache:
        assert cache.retrieve(IDS, out) == TOKENS
    assert np.array_equal(out, KV)


def main() -> None:
    """Do both, each in a segment of its own."""
    for share in (python_to_cpp, cpp_to_python):
        segment = f"cpp-embed-{uuid.uuid4().hex[:8]}"
        try:
            share(sys.argv[1], segment)
        finally:
            _native.remove_segment(_native.segment_path(segment))
        print(f"{share.__name__}: every byte right")


if __name__ == "__main__":
    main()
