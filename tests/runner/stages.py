# SPDX-License-Identifier: Apache-2.0
"""The stages of `make test`, in the order in which they run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from execute import ROOT, Command

PYTHON = sys.executable
TOOLS = Path(PYTHON).parent
CORES = str(len(os.sched_getaffinity(0)))
TESTS_AT_ONCE = str(2 * len(os.sched_getaffinity(0)))  # many wait for most of their time
LONGEST_SECONDS = 3600.0  # of what is measured by the work done, on a slow machine
PARSER_PROGRAM = "net_resp_values"  # of tests/python/net
KERNELS = "lmcache_kernels"  # of tests/python/cuda
SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    # Its deadlock detector ends a thread that holds 64 locks; a repair holds all shards and one.
    "TSAN_OPTIONS": "halt_on_error=1:detect_deadlocks=0"
    f":suppressions={ROOT}/tests/tsan_suppressions.txt",
}


@dataclass(frozen=True)
class Stage:
    """Commands that stop at the first failure; `needs` must exist."""

    name: str
    title: str
    commands: Callable[[], list[Command]]
    needs: tuple[str, ...] = ()
    only_named: bool = False  # not among those that run when none is named


def tool(name: str, *arguments: str | Path) -> Command:
    """Return a command of a program installed in the environment."""
    return Command([str(TOOLS / name), *map(str, arguments)])


def pytest(*arguments: str) -> Command:
    """Return a pytest run."""
    return Command([PYTHON, "-m", "pytest", "-q", *arguments])


def ctest_of(preset: str, *arguments: str) -> list[str]:
    """Return a run of the C++ tests of a preset."""
    ctest = [str(TOOLS / "ctest"), "--preset", preset, "-j", TESTS_AT_ONCE, "--no-tests=error"]
    ctest += arguments
    if preset == "tsan" and shutil.which("setarch"):
        # older ThreadSanitizers refuse the address layouts of newer kernels
        return ["setarch", "-R", *ctest]
    return ctest


def cpp(preset: str) -> list[Command]:
    """Configure, build and run the C++ tests of a preset."""
    ctest = ctest_of(preset)
    return [
        tool("cmake", "--preset", preset),
        tool("cmake", "--build", "--preset", preset, "-j", CORES),
        Command(ctest, SANITIZERS if preset != "dev" else {}),
        Command([PYTHON, "tests/runner/skip_reasons.py", f"build/{preset}"]),
    ]


def python() -> list[Command]:
    """Build what the Python tests ask or look at, then run them."""
    build = ["--build", "--preset", "dev", "-j", CORES, "--target", PARSER_PROGRAM, KERNELS]
    return [
        tool("cmake", "--preset", "dev"),
        tool("cmake", *build),
        pytest("tests/python"),
    ]


def cuda() -> list[Command]:
    """Run what copies by CUDA on a simulated device, with the sanitizers and with parts removed."""
    units = ["cuda", "cuda_sim", "device", "memory"]
    commands = []
    for preset in ("dev", "asan", "tsan"):
        targets = [f"{unit}_tests" for unit in units]
        ctest = ctest_of(preset, "-L", f"^({'|'.join(units)})$")
        commands += [
            tool("cmake", "--preset", preset),
            tool("cmake", "--build", "--preset", preset, "-j", CORES, "--target", *targets),
            Command(ctest, SANITIZERS if preset != "dev" else {}),
        ]
    return [*commands, Command([PYTHON, "tests/cuda_sim/remove_waits.py"])]


def fuzz() -> list[Command]:
    """Build the fuzz targets and run each for a while; without clang, say that it is missing."""
    build = [
        tool("cmake", "--preset", "fuzz"),
        tool("cmake", "--build", "--preset", "fuzz", "-j", CORES),
    ]
    run = Command([PYTHON, "tests/runner/fuzz.py", "build/fuzz"])
    return [*build, run] if shutil.which("clang++") else [run]


def embed() -> list[Command]:
    """Build the wheel, then the C++ example against it and against a plain `cmake --install`.

    The wheel goes into an environment of its own that sees the packages of this one, but not the
    editable lmcache: `.pth` files of a folder that a `.pth` file names are not read.
    """
    wheels, prefix = ROOT / "build/embed/wheels", ROOT / "build/embed/prefix"
    environment = ROOT / "build/embed/venv"
    python = environment / "bin" / "python"
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.rmtree(environment, ignore_errors=True)
    build = ROOT / "build/editable"  # as setup.sh left it: nothing is compiled twice
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
    wheel_options = ["--no-index", "--no-deps", "--no-build-isolation"]
    same = ["-C", f"build-dir={build}", "-C", "cmake.define.LMCACHE_WERROR=ON"]
    return [
        Command([*pip, "wheel", *wheel_options, *same, "-w", str(wheels), "."]),
        Command([PYTHON, "tests/support/wheel_environment.py", str(environment), str(wheels)]),
        Command([str(python), "tests/support/import_is_light.py"]),
        *example("wheel", python, "@wheel"),
        tool("cmake", "--preset", "dev"),
        tool("cmake", "--build", "--preset", "dev", "-j", CORES, "--target", "lmcache"),
        tool("cmake", "--install", "build/dev", "--prefix", prefix),
        *example("prefix", python, str(prefix / "lib" / "cmake" / "lmcache")),
    ]


def example(name: str, python: Path, package: str) -> list[Command]:
    """Build and run examples/cpp_embed against the CMake package of a folder."""
    build = f"build/embed/example-{name}"
    shutil.rmtree(ROOT / build, ignore_errors=True)
    configure = [str(python), "tests/support/configure_example.py", build, package]
    return [
        Command([*configure, str(TOOLS / "cmake")]),
        tool("cmake", "--build", build),
        tool("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error"),
    ]


STREAMS = {"MINUTES": "0", "SEED": "21"}  # one round, the same each time


def vllm() -> list[Command]:
    """Make the models, then run the end-to-end tests but for the long table; last a short round of
    random streams, and what must be found by them.
    """
    tiny = Command([PYTHON, "scripts/make_tiny_model.py", "build/models", "--each"])
    real = Command([PYTHON, "scripts/get_model.py"])
    streams = "tests/vllm/test_differential.py"
    words = [PYTHON, "-m", "pytest", "-q"]
    short = [*words, "tests/vllm", "-m", "not matrix", f"--ignore={streams}"]
    return [
        tiny,
        real,
        Command(short, limit_seconds=LONGEST_SECONDS),
        Command([*words, streams], STREAMS, LONGEST_SECONDS),
    ]


def differential() -> list[Command]:
    """Random streams of requests against vLLM alone, for as long as MINUTES says."""
    minutes = os.environ.get("MINUTES") or "30"
    words = [PYTHON, "-m", "pytest", "-q", "-s", "tests/vllm/test_differential.py"]
    words += ["-k", "without_a_cache"]
    return [Command(words, {"MINUTES": minutes}, float(minutes) * 60 + LONGEST_SECONDS)]


STAGES = [
    Stage(
        "install",
        "build and install into the environment",
        lambda: [Command(["bash", "scripts/setup.sh"])],
    ),
    Stage(
        "lint", "layers, mirrored tests, names, formatters, types", lambda: [pytest("tests/lint")]
    ),
    Stage("cpp", "C++ tests", lambda: cpp("dev")),
    Stage("python", "Python tests", python, ("tests/python",)),
    Stage("asan", "C++ tests, address and undefined behaviour sanitizers", lambda: cpp("asan")),
    Stage("tsan", "C++ tests, thread sanitizer", lambda: cpp("tsan")),
    Stage("fuzz", "parsers of what lies on disk, on inputs made up by libFuzzer", fuzz),
    Stage("embed", "the wheel, and a C++ program that uses it", embed, ("examples/cpp_embed",)),
    Stage("vllm", "end to end with vLLM", vllm, ("tests/vllm",)),
    Stage(
        "cuda",
        "copies by CUDA on a simulated device, also with each wait removed",
        cuda,
        only_named=True,
    ),
    Stage(
        "matrix",
        "every kind of model on every schedule with vLLM",
        lambda: [pytest("tests/vllm", "-m", "matrix")],
        ("tests/vllm",),
        only_named=True,
    ),
    Stage(
        "differential",
        "random streams of requests, token by token against vLLM without a cache",
        differential,
        ("tests/vllm",),
        only_named=True,
    ),
]
