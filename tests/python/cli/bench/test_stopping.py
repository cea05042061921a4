# SPDX-License-Identifier: Apache-2.0
"""A measurement that is stopped leaves nothing behind and shows no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from redis_server import until

from lmcache.cli.bench.stopping import ends_cleanly

LONG = ("--size", "64MB", "--chunk", "1", "--rounds", "100000")


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_cleaning_up_is_not_disturbed(number: int, status: int) -> None:
    cleaned = []

    def measure() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(typer.Exit) as ended, ends_cleanly():
        measure()
    assert ended.value.exit_code == status
    assert cleaned == [True]


def test_what_was_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ends_cleanly():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="mistake"), ends_cleanly():
        raise ValueError("mistake")
    assert signal.getsignal(signal.SIGTERM) is before


def stopped(
    arguments: tuple[str, ...], begun: Callable[[], Any], *numbers: int
) -> subprocess.CompletedProcess[str]:
    """Run it in a group of its own, which gets the signals as a terminal sends them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lmcache.cli", "bench", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(begun)
        for number in numbers:
            os.killpg(process.pid, number)
            time.sleep(0.02)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, "", err)


SIGNALS = [
    ((signal.SIGTERM,), 143),
    ((signal.SIGINT,), 130),
    ((signal.SIGINT, signal.SIGINT, signal.SIGINT), 130),
]


def disk_directories() -> set[Path]:
    return set(Path("/dev/shm").glob("lmcache-disk-*"))


@pytest.mark.multiprocess
@pytest.mark.parametrize(("numbers", "status"), SIGNALS)
def test_bench_disk(tmp_path: Path, numbers: tuple[int, ...], status: int) -> None:
    directories: set[Path] = set()

    def begun() -> bool:
        directories.update(disk_directories())
        return bool(list(tmp_path.glob("*/volume/slab-*")))

    before = disk_directories()
    done = stopped(("disk", "--path", str(tmp_path), *LONG), begun, *numbers)
    assert (done.returncode, done.stderr) == (status, "")
    assert list(tmp_path.iterdir()) == []
    assert directories - before, "it had one"
    assert disk_directories() & (directories - before) == set()


@pytest.mark.multiprocess
def test_bench_disk_restart(tmp_path: Path) -> None:
    def begun() -> bool:
        return bool(list(tmp_path.glob("*/slab-*")))

    arguments = ("disk", "--path", str(tmp_path), "--restart", "200000")
    done = stopped(arguments, begun, signal.SIGTERM)
    assert (done.returncode, done.stderr) == (143, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.multiprocess
@pytest.mark.parametrize(("numbers", "status"), SIGNALS)
def test_bench_remote(redis_server: Any, numbers: tuple[int, ...], status: int) -> None:
    client = redis_server.client()
    arguments = ("remote", "--url", redis_server.url, *LONG)
    done = stopped(arguments, lambda: client.dbsize() > 60, *numbers)
    assert (done.returncode, done.stderr) == (status, "")
    assert client.keys() == []


@pytest.mark.multiprocess
@pytest.mark.parametrize(("numbers", "status"), SIGNALS)
def test_bench_lookup(numbers: tuple[int, ...], status: int) -> None:
    folder, pattern = Path("/dev/shm"), "lmcache-*-bench-lookup-*"
    before = set(folder.glob(pattern))
    made: set[Path] = set()

    def begun() -> bool:
        made.update(set(folder.glob(pattern)) - before)
        return bool(made)

    arguments = ("lookup", "--entries", "1000", "--samples", "100000")
    done = stopped(arguments, begun, *numbers)
    assert (done.returncode, done.stderr) == (status, "")
    assert made & set(folder.glob(pattern)) == set()


@pytest.mark.multiprocess
def test_bench_memory_ends_as_asked() -> None:
    started = time.monotonic()
    arguments = ("memory", "--size", "0.05", "--rounds", "1000000")
    done = stopped(arguments, lambda: time.monotonic() > started + 3, signal.SIGTERM)
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.multiprocess
def test_what_a_killed_one_leaves_in_a_store_expires(redis_server: Any) -> None:
    client = redis_server.client()
    arguments = ("remote", "--url", redis_server.url, *LONG)
    done = stopped(arguments, lambda: client.dbsize() > 60, signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL
    assert all(0 < client.ttl(key) <= 3600 for key in client.scan_iter())
