# SPDX-License-Identifier: Apache-2.0
"""How fast a long prompt is looked up, against SHA-256 of the same bytes in the same run.

What is timed is all that a request pays: a fresh prompt, hashing its token ids, and finding (and
leasing) its chunks in a shared segment. The segment holds more and more other chunks, whose payload
is tiny, since only their number matters here. Both take turns; a ratio is the median of the ratios
of neighbours.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmcache.bench.lookup_process import together
from lmcache.bench.lookup_scene import LookupScene

PROMPT_TOKENS = 131_072
ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
MOST_RATIO = 1.5
MOST_SPREAD = 2.0
PROCESSES = (1, 2)


@dataclass(frozen=True)
class LookupBench:
    """What to measure: `samples` look-ups at each number of entries."""

    entries: tuple[int, ...] = ENTRIES
    tokens: int = PROMPT_TOKENS
    samples: int = 101

    def run(self, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Measure; return the keys of `lmcache bench lookup --json`."""
        tokens = np.random.default_rng(1).integers(0, 1 << 17, self.tokens, np.int32)
        same = tokens.tobytes()
        hashes: list[float] = []
        by_entries: list[dict[str, float]] = []
        ratios: list[float] = []
        name = f"bench-lookup-{os.getpid()}"
        with LookupScene(name, max(self.entries), create=True) as scene:
            scene.store(tokens)
            for entries in self.entries:
                progress(f"filling the segment with {entries:,} chunks")
                scene.fill(entries)
                pairs = [(_hash_us(same), scene.lookup_us(tokens)) for _ in range(self.samples)]
                hashes += [pair[0] for pair in pairs]
                ratios = [lookup / pair_hash for pair_hash, lookup in pairs]
                lookup_us = statistics.median(pair[1] for pair in pairs)
                by_entries.append({"entries": entries, "lookup_us": round(lookup_us, 1)})
            at_once = {}
            for count in PROCESSES:
                progress(f"{count} process(es) looking up at once")
                at_once[str(count)] = round(together(count, name, tokens, self.samples), 1)
        return {
            "tokens": self.tokens,
            "sha256_us": round(statistics.median(hashes), 1),
            "lookup_us": by_entries[-1]["lookup_us"],  # where the segment is fullest
            "ratio": round(statistics.median(ratios), 3),
            "by_entries": by_entries,
            "processes": at_once,
        }


def spread(by_entries: list[dict[str, float]]) -> float:
    """Return the slowest over the fastest."""
    times = [point["lookup_us"] for point in by_entries]
    return max(times) / min(times)


def _hash_us(token_bytes: bytes) -> float:
    started = time.perf_counter()
    hashlib.sha256(token_bytes).digest()
    return (time.perf_counter() - started) * 1e6
