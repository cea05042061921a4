# SPDX-License-Identifier: Apache-2.0
"""A program ends, or forks, while its remote store is in a call."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_store import FolderStore
from redis_server import connected, until

from lmcache import LMCacheEngine
from lmcache.errors import ClosedError
from lmcache.types import KVGeometry

GEOMETRY = KVGeometry(layers=2, kv_heads=2, head_dim=32, dtype="float32")
TOKENS = list(range(1000))
SUPPORT = Path(__file__).parents[2] / "support"


def open_connected(folder: Path) -> LMCacheEngine:
    config: dict[str, Any] = {
        "max_local_cpu_size": 0.05,
        "segment": "private",
        "load_policy": "always",
        "remote_lookup_timeout_ms": 5000,
    }
    engine = LMCacheEngine(config, model="m", geometry=GEOMETRY, remote=FolderStore(folder))
    until(lambda: connected(engine))
    return engine


def fill(folder: Path) -> None:
    kv = np.ones((2, 2, 1000, 2, 32), np.float32)
    with open_connected(folder) as cache:
        assert cache.store(TOKENS, kv) == 1000
        cache.flush()


PROGRAM = """
import sys, time, threading, pathlib, os
sys.path.insert(0, {support!r})
from folder_store import FolderStore
import numpy as np
from lmcache import LMCacheEngine
from lmcache.types import KVGeometry
store = FolderStore(pathlib.Path({folder!r}))
config = {{"max_local_cpu_size": 0.05, "segment": "private", "load_policy": "always",
          "remote_lookup_timeout_ms": 5000}}
cache = LMCacheEngine(config, model="m", remote=store, geometry=KVGeometry(
    layers=2, kv_heads=2, head_dim=32, dtype="float32"))
while "connected" not in [p["remote_state"] for p in cache._native.status()["processes"]]:
    time.sleep(0.01)
{rest}
"""
ENDS = {
    "a get_into hangs": """
store.sleeps["get_into"] = 2.0
fetch = cache._native.fetch(cache._space.namespace, cache._prompt(list(range(1000))), 0)
assert store.busy.wait(10)
""",
    "a get_into hangs, and nobody closes the engine": """
cache._leave.detach()
store.sleeps["get_into"] = 2.0
fetch = cache._native.fetch(cache._space.namespace, cache._prompt(list(range(1000))), 0)
assert store.busy.wait(10)
""",
    "an exists hangs": """
store.sleeps["exists"] = 2.0
fetch = cache._native.fetch(cache._space.namespace, cache._prompt([5] * 1000), 0)
assert store.busy.wait(10)
""",
    "nothing runs, and nobody closes the engine": "cache._leave.detach()",
    "nothing runs": "",
    "a fork ends first": """
pid = os.fork()
if pid == 0:
    from lmcache.errors import ClosedError
    try:
        cache.lookup([1] * 300)
        os._exit(7)
    except ClosedError:
        pass
    cache.close()
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
out = np.zeros((2, 2, 1000, 2, 32), np.float32)
assert cache.retrieve(list(range(1000)), out) == 1000
""",
}


@pytest.mark.multiprocess
@pytest.mark.parametrize("what", ENDS)
def test_the_end_of_a_program(tmp_path: Path, what: str) -> None:
    fill(tmp_path)
    program = PROGRAM.format(support=str(SUPPORT), folder=str(tmp_path), rest=ENDS[what])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    # An engine that nobody closed may still notice that its store goes.
    told = [line for line in done.stderr.splitlines() if "is being closed" not in line]
    assert (done.returncode, told) == (0, [])
    assert time.monotonic() - started < 30


NEVER_RETURNS = """
store.sleeps["get_into"] = 3600.0
fetch = cache._native.fetch(cache._space.namespace, cache._prompt(list(range(1000))), 0)
assert store.busy.wait(10)
began = time.monotonic()
cache.close()
assert cache.closed and 9 < time.monotonic() - began < 25, time.monotonic() - began
before = store.memory[0][4096]  # the client may still use what it has
store.memory[0][4096] = before
print("closed")
"""


@pytest.mark.multiprocess
def test_a_call_that_never_returns_holds_up_nobody_for_long(tmp_path: Path) -> None:
    fill(tmp_path)
    program = PROGRAM.format(support=str(SUPPORT), folder=str(tmp_path), rest=NEVER_RETURNS)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
    assert "a call of the remote store's client does not return" in done.stderr


def test_a_fork_cannot_use_it(tmp_path: Path) -> None:
    with open_connected(FolderStore(tmp_path)) as cache:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                cache.lookup(TOKENS)
            except ClosedError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert connected(cache)
