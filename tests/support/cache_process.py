# SPDX-License-Identifier: Apache-2.0
"""A second real process with an engine of its own, which does what a test tells it.

One JSON line in, one JSON line out. The process uses the KV of `kv_arrays`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import lmcache.config.model
from lmcache import LMCacheEngine
from lmcache.config import SegmentPlace

SETTINGS = {"max_local_cpu_size": 0.03, "chunk_size": 16}


def put_auto_into(folder: str) -> None:
    """Let `segment: auto` of this process mean a file in `folder`, away from real caches."""
    real = lmcache.config.model.segment_place

    def place(segment: str) -> SegmentPlace:
        return SegmentPlace("auto", folder) if segment == "auto" else real(segment)

    lmcache.config.model.segment_place = place


class CacheProcess:
    """The process, seen from the test."""

    def __init__(self, segment: str, auto_folder: str = "", **settings: Any) -> None:
        arguments = {"segment": segment, "auto_folder": auto_folder, "settings": settings}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        assert self._receive() == "ready"
        self.pid = self._process.pid

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.call(name, *arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        """Run a command of `_Commands` there; return what it returned."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def kill(self) -> None:
        """End it with SIGKILL, so that it can do nothing about it."""
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Let it end as a program does that never closes its engine."""
        self._process.stdin.close()  # type: ignore[union-attr]
        assert self._process.wait(30) == 0

    def __enter__(self) -> CacheProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()  # type: ignore[union-attr]


class _Commands:
    def __init__(self, engine: LMCacheEngine) -> None:
        self._engine = engine

    def store(self, tokens: list[int]) -> int:
        from kv_arrays import kv_of

        return self._engine.store(tokens, kv_of(tokens))

    def lookup(self, tokens: list[int]) -> int:
        return self._engine.lookup(tokens)

    def retrieve(self, tokens: list[int]) -> list[Any]:
        """Return the tokens found, and whether their KV is right."""
        from kv_arrays import empty_kv, is_kv_of, is_untouched

        out = empty_kv(len(tokens))
        found = self._engine.retrieve(tokens, out)
        return [found, is_kv_of(out, tokens[:found]) and is_untouched(out, found)]

    def flush(self) -> None:
        self._engine.flush()

    def clear(self) -> int:
        return self._engine.clear()

    def pin(self, tokens: list[int]) -> int:
        return self._engine.pin(tokens)

    def reserve(self, tokens: list[int]) -> int:
        """Reserve slots and never write them, as a process does that is killed halfway."""
        prompt = self._engine._prompt(tokens)
        (refs,) = self._engine._native.reserve(
            self._engine._space.namespace, prompt, 0, len(tokens)
        )
        return sum(ref != 0 for ref in refs)

    def stats(self) -> dict[str, Any]:
        return self._engine.stats()

    def record(self, prefill_s: float, request: list[Any]) -> None:
        self._engine.record_prefill(1000, prefill_s)
        self._engine.observed.record_request(*request)

    def status(self) -> dict[str, Any]:
        return self._engine._native.status()


def _plain(value: Any) -> Any:
    """Return what JSON has for numbers of NumPy, and for the bytes of a namespace's root."""
    return value.hex() if isinstance(value, bytes) else int(value)


def main(arguments: dict[str, Any]) -> None:
    """Serve one test."""
    if arguments["auto_folder"]:
        put_auto_into(arguments["auto_folder"])
    settings = {**SETTINGS, "segment": arguments["segment"], **arguments["settings"]}
    engine = LMCacheEngine(settings, model="m")
    commands = _Commands(engine)
    print('"ready"', flush=True)
    for line in sys.stdin:
        name, *values = json.loads(line)
        print(json.dumps(getattr(commands, name)(*values), default=_plain), flush=True)


if __name__ == "__main__":
    np.seterr(all="raise")
    main(json.loads(sys.argv[1]))
