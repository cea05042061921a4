# SPDX-License-Identifier: Apache-2.0
"""Mirrored tests, file length, names, licence lines: all is well here, violations are seen."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tree_checks import layout, rules

LICENCE = f"# {rules.SPDX}\n"


def test_every_source_has_its_test(repository):
    assert layout.check_mirror(repository) == []


def test_no_file_is_too_long(repository):
    assert layout.check_length(repository) == []


def test_names_say_something(repository):
    assert layout.check_names(repository) == []


def test_every_source_has_the_licence_line(repository):
    assert layout.check_licence(repository) == []


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("cpp/io/uring_ring.cpp", "tests/cpp/io/uring_ring_test.cpp"),
        ("cpp/tier/dram/slots.cpp", "tests/cpp/tier/dram/slots_test.cpp"),
        ("python/lmcache/errors.py", "tests/python/test_errors.py"),
        ("python/lmcache/config/load.py", "tests/python/config/test_load.py"),
        (
            "python/lmcache/integration/vllm/plugin.py",
            "tests/python/integration/vllm/test_plugin.py",
        ),
        ("python/lmcache/integration/vllm/plugin.py", "tests/vllm/test_plugin.py"),
    ],
)
def test_missing_test_is_seen(plant, source, test):
    bad = layout.check_mirror(plant({source: ""}))
    assert len(bad) == 1
    assert test in bad[0]
    assert layout.check_mirror(plant({test: ""})) == []


@pytest.mark.parametrize("path", ["python/lmcache/config/__init__.py", "include/lmcache/key/k.hpp"])
def test_some_files_need_no_test(plant, path):
    assert layout.check_mirror(plant({path: ""})) == []


def test_long_file_is_seen(plant):
    limit = rules.MAX_LINES
    assert layout.check_length(plant({"cpp/key/x.cpp": "\n" * limit})) == []
    bad = layout.check_length(plant({"cpp/key/x.cpp": "\n" * (limit + 1)}))
    assert bad == [f"cpp/key/x.cpp: {limit + 1} lines, limit {limit}"]


@pytest.mark.parametrize(
    "path",
    ["cpp/base/utils.hpp", "python/lmcache/common/x.py", "docs/cache_manager.md", "cpp/v1/x.cpp"],
)
def test_empty_word_is_seen(plant, path):
    assert len(layout.check_names(plant({path: ""}))) == 1


@pytest.mark.parametrize("path", ["cpp/base/commonality.hpp", "build/utils.py", "cpp/key/v10.cpp"])
def test_other_names_pass(plant, path):
    assert layout.check_names(plant({path: ""})) == []


def test_names_that_vllm_dictates_pass_with_their_tests(plant):
    dictated = ["python/lmcache/v1/x/y.py", "python/lmcache/utils.py"]
    tests = ["tests/python/v1/x/test_y.py", "tests/python/test_utils.py"]
    assert layout.check_names(plant(dict.fromkeys(dictated + tests, ""))) == []
    assert len(layout.check_names(plant({"python/lmcache/engine/utils.py": ""}))) == 1


@pytest.mark.parametrize("test", rules.DICTATED_TESTS)
def test_one_file_may_test_all_dictated_names(plant, test):
    root = plant({"python/lmcache/v1/x/y.py": "", "python/lmcache/utils.py": ""})
    assert len(layout.check_mirror(root)) == 2
    assert layout.check_mirror(plant({test: ""})) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cpp/key/x.cpp", "int x;\n"),
        ("scripts/x.sh", "#!/bin/sh\nexit\n"),
        ("tests/python/test_x.py", f"import os\n{LICENCE}"),
        ("CMakeLists.txt", "project(x)\n"),
        (".ci/run", "#!/usr/bin/env bash\nmake test\n"),
    ],
)
def test_missing_licence_line_is_seen(plant, path, text):
    assert len(layout.check_licence(plant({path: text}))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cpp/key/x.cpp", f"// {rules.SPDX}\nint x;\n"),
        ("scripts/x.sh", f"#!/bin/sh\n{LICENCE}exit\n"),
        ("python/lmcache/x/__init__.py", ""),
        ("tests/data/vectors.json", "{}"),
        ("docs/index.md", "text"),
    ],
)
def test_licence_line_is_found_or_not_needed(plant, path, text):
    assert layout.check_licence(plant({path: text})) == []


def test_command_reports_violations_and_fails(plant, repository):
    root = plant({"cpp/key/utils.cpp": "#include <lmcache/engine/engine.hpp>\n"})
    done = subprocess.run(
        [sys.executable, "-m", "tree_checks", str(root)],
        cwd=repository / "tests/lint",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 4  # layer, mirror, name, licence
    assert any("includes engine" in line for line in lines)
