# SPDX-License-Identifier: Apache-2.0
"""Removes each wait and each order of the CUDA copier in turn: the tests must notice every one.

usage: python tests/cuda_sim/remove_waits.py [--only WORD]

Compiles the copier, the simulated device and their tests into a folder of its own (GoogleTest and
OpenSSL as the C++ tests need them), without touching the tree. Exit status 1 if a removal stays
unnoticed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("include", "cpp/base", "cpp/device", "cpp/memory", "cuda", "tests/cuda_sim", "tests/cpp")
SOURCES = (
    "cpp/base/cuda_error.cpp",
    "cpp/base/worker_thread.cpp",
    "cpp/device/batch_walk.cpp",
    "cpp/device/copy_tally.cpp",
    "cpp/device/cuda_choice.cpp",
    "cpp/device/cuda_copier.cpp",
    "cpp/device/cuda_feed.cpp",
    "cpp/device/cuda_issue.cpp",
    "cpp/device/cuda_lane.cpp",
    "cpp/device/cuda_pieces.cpp",
    "cpp/device/cuda_queue.cpp",
    "cpp/device/cuda_session.cpp",
    "cpp/device/device_copier.cpp",
    "cpp/device/stream_copy.cpp",
    "cpp/memory/pinned_cuda.cpp",
    "cuda/host_kernels.cpp",
    "cuda/kernel_image.cpp",
    "tests/cuda_sim/cuda_sim.cpp",
    "tests/cuda_sim/sim_api.cpp",
    "tests/cuda_sim/sim_device.cpp",
    "tests/cuda_sim/sim_memory.cpp",
    "tests/cuda_sim/sim_stream.cpp",
    "tests/cpp/device/cuda_lane_test.cpp",
    "tests/cpp/device/cuda_queue_test.cpp",
)
COMPILE = ("-std=c++20", "-O0", "-g0", "-Iinclude", "-I.", "-Icpp", "-Itests", "-Itests/cpp")
LIBRARIES = ("-lgtest", "-lgtest_main", "-lpthread", "-ldl")
# A removal may leave a test waiting for what never comes; that is noticed, too.
TIMEOUT_S = 60


@dataclass(frozen=True)
class Removal:
    """What is taken away: `before` stands once in `path`, and becomes `after`."""

    what: str
    path: str
    before: str
    after: str


REMOVALS = (
    Removal(
        "the stream's wait for the engine's event",
        "cpp/device/cuda_lane.cpp",
        "return api_.stream_wait_event(stream_, event, 0);",
        "static_cast<void>(event); return kOk;",
    ),
    Removal(
        "the visit to the engine's event before the first piece",
        "cpp/device/cuda_feed.cpp",
        "if (batch.engine_event != nullptr) {",
        "if (false) {",
    ),
    Removal(
        "the event on the engine's stream at submit",
        "cpp/device/cuda_queue.cpp",
        "status = set_.api.event_record(event, reinterpret_cast<CudaStream>(stream.handle));",
        "static_cast<void>(stream);",
    ),
    Removal(
        "the event after a piece",
        "cpp/device/cuda_lane.cpp",
        "recorded = api_.event_record(piece.event, stream_);",
        "recorded = kOk;",
    ),
    Removal(
        "the engine's wait for the event of a plane",
        "cpp/device/cuda_queue.cpp",
        "status = set_.api.stream_wait_event("
        "reinterpret_cast<CudaStream>(stream.handle), event, 0);",
        "static_cast<void>(stream);",
    ),
    Removal(
        "the host's wait until a plane is on the stream",
        "cpp/device/cuda_queue.cpp",
        "if (batch == nullptr || batch->planes.planes_issued() >= planes) return true;",
        "return true;",
    ),
    Removal(
        "an event per plane: a layer waits for all of them",
        "cpp/device/cuda_pieces.cpp",
        "load ? sizes.plane_bytes : sizes.piece_bytes",
        "sizes.piece_bytes",
    ),
    Removal(
        "the host's look at the event of a piece",
        "cpp/device/cuda_feed.cpp",
        "CudaStatus status = set_.api.event_query(piece.event);",
        "CudaStatus status = kOk;",
    ),
    Removal(
        "the order of a batch's sources after the stream",
        "cpp/device/cuda_issue.cpp",
        ".source_order = cuda::kSourceOrderStream",
        ".source_order = cuda::kSourceOrderAny",
    ),
    Removal(
        "cancel's wait for what is on the device",
        "cpp/device/cuda_queue.cpp",
        "return first && batch->in_flight == 0;",
        "return first;",
    ),
    Removal(
        "the wait for the lane where an event cannot be recorded",
        "cpp/device/cuda_lane.cpp",
        "CudaStatus const ended = api_.stream_synchronize(stream_);",
        "CudaStatus const ended = kOk;",
    ),
    Removal(
        "the bound of the buffers",
        "cpp/device/cuda_lane.cpp",
        "if (!taken) return false;",
        "if (!taken) return true;",
    ),
)


def run(command: list[str], folder: Path, timeout_s: float | None = None) -> bool:
    """Run a command; tell whether it succeeded, and show what it said if it must."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode != 0 and timeout_s is None:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.returncode == 0


def compile_one(folder: Path, source: str) -> str:
    """Compile `source`; return the object's name."""
    target = source.replace("/", "_") + ".o"
    launcher = [tool] if (tool := os.environ.get("CMAKE_CXX_COMPILER_LAUNCHER")) else []
    run([*launcher, os.environ.get("CXX", "g++"), *COMPILE, "-c", source, "-o", target], folder)
    return target


def tests_pass(folder: Path, objects: list[str]) -> bool:
    """Link the test program and run it."""
    run([os.environ.get("CXX", "g++"), *objects, "-o", "tests_of_copier", *LIBRARIES], folder)
    return run(["./tests_of_copier", "--gtest_fail_fast", "--gtest_brief=1"], folder, TIMEOUT_S)


def apply(folder: Path, removal: Removal) -> str:
    """Take the wait away; return the file's text as it was."""
    file = folder / removal.path
    text = file.read_text(encoding="utf-8")
    # clang-format decides where lines end.
    spaced = r"".join(text.split())
    wanted = "".join(removal.before.split())
    if spaced.count(wanted) != 1:
        sys.exit(f"{removal.path} no longer holds once: {removal.before}")
    begin = position(text, spaced.index(wanted))
    end = position(text, spaced.index(wanted) + len(wanted) - 1) + 1
    file.write_text(text[:begin] + removal.after + text[end:], encoding="utf-8")
    return text


def position(text: str, nth: int) -> int:
    """Return where the `nth` character that is no space stands in `text`."""
    seen = -1
    for at, character in enumerate(text):
        seen += not character.isspace()
        if seen == nth:
            return at
    raise IndexError(nth)


def main() -> int:
    """Remove one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="removals whose description holds this word")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="remove-waits-") as made:
        folder = Path(made)
        for part in FOLDERS:
            shutil.copytree(ROOT / part, folder / part)
        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(lambda source: compile_one(folder, source), SOURCES))
        if not tests_pass(folder, objects):
            sys.exit("the tests fail before anything is removed")
        unnoticed = []
        for removal in REMOVALS:
            if only not in removal.what:
                continue
            text = apply(folder, removal)
            compile_one(folder, removal.path)
            noticed = not tests_pass(folder, objects)
            print(f"{'noticed' if noticed else 'UNNOTICED'}: {removal.what}", flush=True)
            unnoticed += [] if noticed else [removal]
            (folder / removal.path).write_text(text, encoding="utf-8")
            compile_one(folder, removal.path)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
