# SPDX-License-Identifier: Apache-2.0
"""Several processes that look up the same prompt in the same segment at the same time."""

from __future__ import annotations

import multiprocessing
import statistics
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from lmcache.bench.lookup_scene import LookupScene, Tokens
from lmcache.bench.measuring_process import running
from lmcache.errors import LMCacheError

_WARM_UP = 5
_LONGEST_S = 120.0


def together(processes: int, segment: str, tokens: Tokens, samples: int) -> float:
    """Return the median time of a look-up, in us, while `processes` of them do nothing else."""
    # Spawned, not forked: the parent has threads, and its engine is its own.
    context = multiprocessing.get_context("spawn")
    start: Any = context.Barrier(processes)
    ends = []
    times: list[float] = []
    with ExitStack() as workers:
        for _ in range(processes):
            end, theirs = context.Pipe(duplex=False)
            arguments = (segment, tokens, samples, start, theirs)
            worker = context.Process(target=_measure, args=arguments, daemon=True)
            workers.enter_context(running(worker))
            theirs.close()
            ends.append(end)
        try:
            for end in ends:
                if not end.poll(_LONGEST_S):
                    raise LMCacheError("a process of the measurement does not answer")
                times += end.recv()
        except EOFError:
            raise LMCacheError("a process of the measurement failed") from None
    return statistics.median(times)


def _measure(segment: str, tokens: Tokens, samples: int, start: Any, answers: Connection) -> None:
    with LookupScene(segment, 1, create=False) as scene:
        for _ in range(_WARM_UP):
            scene.lookup_us(tokens)
        start.wait(_LONGEST_S)
        answers.send([scene.lookup_us(tokens) for _ in range(samples)])
