# SPDX-License-Identifier: Apache-2.0
"""Files: each source has its test, is short, is well named and carries the licence line."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from tree_checks import rules, tree

NO_TEST_NEEDED = {"__init__", "__main__"}


def tests_of(path: str) -> list[str]:
    """Return the paths of which one must exist because `path` does; empty if it needs no test."""
    file = PurePosixPath(path)
    if path.startswith("cpp/") and file.suffix == ".cpp":
        return [f"tests/{file.parent}/{file.stem}_test.cpp"]
    prefix = f"{rules.PYTHON_ROOT}/{rules.PYTHON_PACKAGE}/"
    if not path.startswith(prefix) or file.suffix != ".py" or file.stem in NO_TEST_NEEDED:
        return []
    folder = PurePosixPath(path.removeprefix(prefix)).parent
    places = [f"tests/python/{folder}/test_{file.stem}.py".replace("/./", "/")]
    if folder.is_relative_to("integration/vllm"):
        rest = folder.relative_to("integration/vllm")
        places.append(f"tests/vllm/{rest}/test_{file.stem}.py".replace("/./", "/"))
    if path.startswith(rules.DICTATED_PATHS):
        places += rules.DICTATED_TESTS
    return places


def check_mirror(root: Path) -> list[str]:
    """Return the sources that have no test of their name."""
    there = set(tree.files(root))
    bad = []
    for path in sorted(there):
        places = tests_of(path)
        if places and not there.intersection(places):
            bad.append(f"{path}: has no test {' or '.join(places)}")
    return bad


def check_length(root: Path) -> list[str]:
    """Return the sources that are too long to be one concept."""
    bad = []
    for path in tree.files(root):
        if tree.is_source(path):
            lines = tree.text(root, path).count("\n")
            if lines > rules.MAX_LINES and str(path) not in rules.GENERATED:
                bad.append(f"{path}: {lines} lines, limit {rules.MAX_LINES}")
    return bad


def check_names(root: Path) -> list[str]:
    """Return the paths with a word that says nothing about what is inside."""
    bad = []
    paths = list(tree.files(root))
    dictated = {path for path in paths if path.startswith(rules.DICTATED_PATHS)}
    allowed = dictated.union(*map(tests_of, dictated))
    for path in paths:
        if path in allowed:
            continue
        words = set(re.split(r"[^a-z0-9]+", path.lower())) & rules.FORBIDDEN_WORDS
        if words:
            bad.append(f"{path}: '{min(words)}' says nothing; name it after its concept")
    return bad


def check_licence(root: Path) -> list[str]:
    """Return the sources without the licence line at their top (after `#!`, if there is one)."""
    bad = []
    for path in tree.files(root):
        if tree.is_source(path):
            lines = tree.text(root, path).splitlines()
            at = 1 if lines and lines[0].startswith("#!") else 0
            if lines and rules.SPDX not in "".join(lines[at : at + 1]):
                bad.append(f"{path}: line {at + 1} must hold {rules.SPDX}")
    return bad


def check(root: Path) -> list[str]:
    """Return one line per violation in the tree."""
    return check_mirror(root) + check_length(root) + check_names(root) + check_licence(root)
