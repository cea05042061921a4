# SPDX-License-Identifier: Apache-2.0
"""Two processes with nothing in common but a Redis: the second gets what the first computed.

    python share.py [--url redis://HOST:PORT] [--tokens N]

Each has a memory segment of its own, as on two nodes. Without `--url` a redis-server is started for
it, on a socket in a temporary folder. Ends with status 1 when a byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lmcache import LMCacheEngine
from lmcache.errors import LMCacheError
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=16, kv_heads=4, head_dim=64, dtype="float16")
SETTINGS = {
    "segment": "private",
    "max_local_cpu_size": 0.5,
    "load_policy": "always",  # this model is no measure of what computing costs
    "ttl": 300,  # seconds: in a Redis that stays, nothing of this is left
}
PATIENCE_S = 30


def compute(tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the KV of a made-up model: that of a token depends on all tokens before it."""
    width = GEOMETRY.kv_heads * GEOMETRY.head_dim
    weights = np.random.default_rng(0).standard_normal((GEOMETRY.layers, 3, width, width))
    weights = (weights / np.sqrt(width)).astype(np.float32)
    state = np.sin(tokens[:, None] * np.arange(1, width + 1) / width).astype(np.float32)
    kv = np.empty(GEOMETRY.shape(len(tokens)), GEOMETRY.dtype)
    for layer, (key, value, out) in enumerate(weights):
        kv[layer, 0] = (state @ key).reshape(kv[layer, 0].shape)
        kv[layer, 1] = (state @ value).reshape(kv[layer, 1].shape)
        before = np.cumsum(state, axis=0) / np.arange(1, len(tokens) + 1)[:, None]
        state = np.tanh((state + before).astype(np.float32) @ out)
    return kv


def open_cache(model: str) -> LMCacheEngine:
    """Open an engine of this process; an address that is none is one line."""
    try:
        return LMCacheEngine(SETTINGS, model=model, geometry=GEOMETRY)
    except LMCacheError as error:
        sys.exit(str(error))


def wait_connected(cache: LMCacheEngine) -> None:
    """Wait for the store: it is used once it has answered.

    A server that runs for hours does without: what comes before that is computed, and not sent.
    """
    deadline = time.monotonic() + PATIENCE_S
    while cache.observed.segment()["processes"][0]["remote_state"] != "connected":
        if time.monotonic() > deadline:
            sys.exit(f"the store does not answer within {PATIENCE_S} s")
        time.sleep(0.01)


def first(model: str, tokens: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Compute, and store what was computed."""
    started = time.perf_counter()
    kv = compute(tokens)
    computed = time.perf_counter()
    with open_cache(model) as cache:
        wait_connected(cache)
        cache.store(tokens, kv)
        cache.flush()  # until the store has it; closing does not wait
    return {"compute_s": computed - started, "bytes": kv.nbytes, "sha256": digest(kv)}


def second(model: str, tokens: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Get it, in a process that has computed nothing."""
    out = np.zeros(GEOMETRY.shape(len(tokens)), GEOMETRY.dtype)
    with open_cache(model) as cache:
        wait_connected(cache)
        started = time.perf_counter()
        reused = cache.retrieve(tokens, out)
        elapsed = time.perf_counter() - started
    return {"retrieve_s": elapsed, "tokens": reused, "sha256": digest(out)}


def digest(kv: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of all bytes."""
    return hashlib.sha256(kv.data).hexdigest()


@contextmanager
def store(url: str | None) -> Iterator[str]:
    """Yield the address of a store: the given one, or that of a redis-server of ours."""
    if url:
        yield url
        return
    if shutil.which("redis-server") is None:
        sys.exit("no redis-server is installed: say --url")
    with tempfile.TemporaryDirectory(prefix="lmcache-share-") as folder:
        socket = Path(folder) / "redis.sock"
        where = ["--port", "0", "--unixsocket", str(socket), "--dir", folder]
        server = subprocess.Popen(["redis-server", *where, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            yield f"unix://{socket}"
        finally:
            server.kill()
            server.wait()


def process(role: str, url: str, model: str, tokens: int) -> dict[str, Any]:
    """Run a role in a new process; return what it reports."""
    command = [sys.executable, __file__, "--role", role, "--model", model, "--tokens", str(tokens)]
    # The address may hold a password, so it is no argument.
    environment = {**os.environ, "LMCACHE_REMOTE_URL": url}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def share(url: str | None, tokens: int) -> int:
    """Do it; return the exit status."""
    model = f"share-{uuid.uuid4().hex[:8]}"  # nobody stored anything of it before
    with store(url) as address:
        one = process("first", address, model, tokens)
        other = process("second", address, model, tokens)
    print(
        f"first process:  computed {tokens} tokens, {one['bytes'] / 1e6:.0f} MB of KV, "
        f"in {one['compute_s'] * 1000:.0f} ms"
    )
    print(
        f"second process: got {other['tokens']} tokens of it from the store "
        f"in {other['retrieve_s'] * 1000:.0f} ms"
    )
    equal = one["sha256"] == other["sha256"]
    print("every byte is the same" if equal else "NOT the same bytes")
    return 0 if equal and other["tokens"] == tokens else 1


def main() -> int:
    """Run the example, or one of its two processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--url", help="a Redis or Valkey; without it one is started")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--role", choices=("first", "second"), help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is None:
        return share(arguments.url, arguments.tokens)
    tokens = (np.arange(arguments.tokens) * 7919 + 13) % 32000
    run = first if arguments.role == "first" else second
    print(json.dumps(run(arguments.model, tokens)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
