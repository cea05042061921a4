# SPDX-License-Identifier: Apache-2.0
"""KV that comes back from disk: after the memory is gone, while it is too small, and not at all
where computing is faster.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import pytest

CHUNK = 64
TOKENS = 8


def prompt(seed: int, size: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 2000) for _ in range(size)]


LONG = prompt(1, 1500)
MANY = [prompt(10 + i, 300 + 7 * i) for i in range(12)]
SHARING_ROUNDS = 14  # even: who begins changes from round to round
SHARED = [prompt(5, 1024) + prompt(50 + i, 40) for i in range(9)]


def config(folder: Any, **settings: Any) -> dict[str, Any]:
    return {
        "chunk_size": CHUNK,
        "segment": "private",
        "max_local_cpu_size": 0.5,
        "local_disk": str(folder),
        "max_local_disk_size": 1,
        "load_policy": "always",  # the speed of a busy machine decides nothing here
        **settings,
    }


def start(open_llm: Any, settings: dict[str, Any], **more: Any) -> Any:
    return open_llm(block_size=32, enable_lmcache=True, lmcache_config=settings, **more)


def status(llm: Any) -> dict[str, Any]:
    return dict(llm.worker._attachment.engine.status())


def flush(llm: Any) -> None:
    llm.settle()
    assert llm.worker._attachment.engine.drain(60_000)


@pytest.fixture(scope="module")
def reference(open_llm: Any) -> dict[tuple[int, ...], Any]:
    llm = open_llm(block_size=32)
    prompts = [LONG, *MANY, *SHARED]
    return {tuple(asked): llm.ask_one(asked, TOKENS) for asked in prompts}


def same(llm: Any, reference: dict[tuple[int, ...], Any], asked: list[int]) -> int:
    """Ask once and compare; return the tokens that were not computed."""
    answer = llm.ask_one(asked, TOKENS)
    assert answer.differs_from(reference[tuple(asked)]) == ""
    return int(answer.cached_tokens)


@pytest.fixture(scope="module")
def filled(open_llm: Any, reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the KV of all prompts, left by an engine that is gone, memory and all."""
    folder = tmp_path_factory.mktemp("disk")
    llm = start(open_llm, config(folder))
    for asked in [LONG, *MANY, SHARED[0]]:
        assert same(llm, reference, asked) == 0
        flush(llm)
    total = status(llm)["total"]
    assert total["disk_written_chunks"] == total["stored_chunks"]
    assert total["disk_dropped_writes"] == total["disk_write_errors"] == 0
    # What loading is weighed against; no CPU computes a token in a microsecond.
    assert total["prefill_ns"] > 1000 * total["prefill_tokens"] > 0
    llm.close()
    return folder


@pytest.mark.parametrize("io", ["io_uring", "threads"])
def test_a_new_engine_finds_what_the_old_one_left_on_disk(open_llm, reference, filled, io):
    llm = start(open_llm, config(filled, disk_io=io))
    assert same(llm, reference, LONG) >= len(LONG) - CHUNK
    for asked in MANY:
        assert same(llm, reference, asked) >= len(asked) - CHUNK
    now = status(llm)
    assert now["disk"]["io_engine"] == io
    assert now["total"]["disk_hit_tokens"] >= len(LONG) - CHUNK
    assert now["total"]["disk_corrupt_chunks"] == now["total"]["disk_read_errors"] == 0
    # What came from disk is in memory now.
    before = now["total"]["disk_read_chunks"]
    assert same(llm, reference, LONG) >= len(LONG) - CHUNK
    llm.settle()
    now = status(llm)
    assert now["total"]["disk_read_chunks"] == before
    assert now["leased"] == now["writing"] == 0


def test_the_next_turn_after_a_restart_finds_the_last_one_to_its_end(open_llm, tmp_path):
    """A conversation does not end where a chunk does."""
    first = prompt(6, 200)
    llm = start(open_llm, config(tmp_path, conversation_mode=True))
    spoken = [*first, *llm.ask_one(first, 20).tokens]
    flush(llm)
    turn = [*spoken, *prompt(7, 150)]
    llm = start(open_llm, config(tmp_path, conversation_mode=True))
    answer = llm.ask_one(turn, TOKENS)
    assert answer.cached_tokens >= len(spoken) - 2  # nobody computed the KV of the last one
    assert answer.differs_from(open_llm(block_size=32).ask_one(turn, TOKENS)) == ""


def test_memory_so_small_that_most_comes_from_disk(open_llm, reference, filled):
    """A chunk takes 256 kB, so some 60 fit; the prompts have about 80, asked in turn."""
    llm = start(open_llm, config(filled, max_local_cpu_size=0.016))
    for asked in [*MANY, *MANY, *MANY[::-1]]:
        assert same(llm, reference, asked) >= len(asked) - 2 * CHUNK
    llm.settle()
    now = status(llm)
    assert now["total"]["disk_read_chunks"] > now["ready"]
    assert now["total"]["evicted_chunks"] > 0
    assert now["leased"] == now["writing"] == 0


def test_requests_that_share_a_prefix_on_disk_read_it_once(open_llm, reference, filled):
    llm = start(open_llm, config(filled))
    for asked, answer in zip(SHARED[1:], llm.ask(SHARED[1:], TOKENS), strict=True):
        assert answer.differs_from(reference[tuple(asked)]) == ""
        assert answer.cached_tokens >= 1024
    total = status(llm)["total"]
    assert total["disk_read_chunks"] <= 1024 // CHUNK + 2  # and a tail of the first
    assert total["load_failures_gone"] == 0


def test_eight_that_share_a_prefix_wait_for_the_disk_as_long_as_one(open_llm, tmp_path):
    """All that wait go on in the same step. What the disk adds to the time until the last of them
    has its blocks, over a prefix in memory, is printed, against one alone: in turns, each time on
    a prefix that is only on disk.
    """
    prefixes = [prompt(7000 + i, 1024) for i in range(2 * SHARING_ROUNDS + 2)]
    llm = start(open_llm, config(tmp_path))
    for i, prefix in enumerate(prefixes):
        llm.ask_one(prefix + prompt(8000 + i, 40), 1)
    flush(llm)
    llm = start(open_llm, config(tmp_path))
    admissions = Admissions(llm)
    waits: dict[int, list[float]] = {1: [], 8: []}
    turns = [1, 8, 1, 8] + [1, 8, 8, 1] * (SHARING_ROUNDS // 2)
    for i, (prefix, size) in enumerate(zip(prefixes, turns, strict=False)):

        def ask(number: int, prefix: list[int] = prefix, size: int = size) -> float:
            return admissions.ask([[*prefix, *prompt(10 * number + k, 40)] for k in range(size)])

        before = status(llm)["total"]["disk_read_chunks"]
        from_disk = ask(100)
        assert status(llm)["total"]["disk_read_chunks"] - before == 1024 // CHUNK
        if i >= 2:  # the first of each finds nothing warm
            waits[size].append(from_disk - statistics.median(ask(k) for k in range(101, 104)))
    one, eight = (1e3 * statistics.median(waits[size]) for size in (1, 8))
    print(
        f"\nrequests wait for the disk: one {one:.2f} ms, the last of eight {eight:.2f} ms "
        f"({eight / one:.2f}), median of {len(waits[8])}"
    )
    assert status(llm)["total"]["load_failures_gone"] == 0


class Admissions:
    """Notes when vLLM asks for requests, and when it gives them their blocks."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._connector = llm.core.scheduler.connector
        self._asked: list[float] = []
        self._admitted: list[tuple[float, int]] = []  # when, in which step
        self._waited: dict[int, int] = {}  # step -> requests told to ask again
        asked, admitted = (
            self._connector.get_num_new_matched_tokens,
            self._connector.update_state_after_alloc,
        )

        def get_num_new_matched_tokens(*arguments: Any) -> Any:
            self._asked.append(time.monotonic())
            found = asked(*arguments)
            if found[0] is None:
                step = self._connector._scheduler._step
                self._waited[step] = self._waited.get(step, 0) + 1
            return found

        def update_state_after_alloc(*arguments: Any) -> None:
            self._admitted.append((time.monotonic(), self._connector._scheduler._step))
            admitted(*arguments)

        self._connector.get_num_new_matched_tokens = get_num_new_matched_tokens
        self._connector.update_state_after_alloc = update_state_after_alloc

    def ask(self, prompts: list[list[int]]) -> float:
        """Return the seconds from the first question to the last admission."""
        flush(self._llm)
        self._asked.clear()
        self._admitted.clear()
        self._waited.clear()
        self._llm.ask(prompts, 1)
        assert len(self._admitted) == len(prompts)
        # A quick disk is done before the last of them asks: that one does not wait at all. From
        # then on none waits any more.
        first = self._admitted[0][1]
        late = sum(step > first for _, step in self._admitted)
        assert late == self._waited.get(first, 0)
        assert not any(step > first for step in self._waited)
        assert late == 0 or len(self._waited) == 1, "waited with others, and went on after them"
        return self._admitted[-1][0] - self._asked[0]


def test_a_slow_disk_is_not_waited_for(open_llm, reference, filled):
    """5 MB/s: a chunk of 256 kB takes 50 ms, computing its 64 tokens far less."""
    llm = start(open_llm, config(filled, max_disk_bandwidth=5, load_policy="auto"))
    llm.ask_one(prompt(999, 1200), 1)  # how fast it computes
    computed, waited = [], []
    for i, asked in enumerate(MANY):
        computed.append(seconds(llm, [prompt(2000 + i, len(asked))]))
        waited.append(seconds(llm, [asked]))
    ratio = statistics.median(w / c for w, c in zip(waited, computed, strict=True))
    print(f"\ntime to first token, slow disk over no disk: {ratio:.2f}")
    total = status(llm)["total"]
    assert total["loads_declined"] + total["loads_abandoned"] >= len(MANY) // 2
    assert same(llm, reference, MANY[0]) >= 0


def seconds(llm: Any, prompts: list[list[int]]) -> float:
    """Return the time until all of them have their first token."""
    llm.settle()
    started = time.monotonic()
    llm.ask(prompts, 1)
    return time.monotonic() - started


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_on_disk_is_computed_again(open_llm, reference, tmp_path, damage):
    llm = start(open_llm, config(tmp_path))
    same(llm, reference, LONG)
    flush(llm)
    llm.close()
    for slab in tmp_path.glob("slab-*"):
        content = bytearray(slab.read_bytes())
        if damage == "cut":
            slab.write_bytes(content[: len(content) // 3])
            continue
        for at in range(0, len(content), 100_000):
            content[at] ^= 0x40
        slab.write_bytes(content)
    llm = start(open_llm, config(tmp_path))
    cached = same(llm, reference, LONG)
    assert cached < len(LONG) - CHUNK
    now = status(llm)
    assert now["total"]["disk_corrupt_chunks"] > 0 or damage == "cut"
    # It was stored again, and is whole.
    flush(llm)
    llm.close()
    llm = start(open_llm, config(tmp_path))
    assert same(llm, reference, LONG) >= len(LONG) - CHUNK


def test_a_folder_that_cannot_be_used_is_told_and_served_without(open_llm, reference, tmp_path):
    (tmp_path / "volume").write_text("somebody else's")
    llm = start(open_llm, config(tmp_path))
    assert same(llm, reference, LONG) == 0
    assert same(llm, reference, LONG) >= len(LONG) - CHUNK
    assert status(llm)["disk"] is None
    assert (tmp_path / "volume").read_text() == "somebody else's"
