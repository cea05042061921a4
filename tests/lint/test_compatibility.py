# SPDX-License-Identifier: Apache-2.0
"""docs/compatibility.md names a test for what it says of models and features, and the test
exists.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from matrix_table import MODELS, ROWS

NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[([^`]*)\])?`")
TEXT = "docs/compatibility.md"


def missing(repository: Path, text: str) -> list[str]:
    """Return the tests that a text names and that are not there."""
    rows = {str(row) for row in ROWS}
    gone = []
    for path, function, case in NODE.findall(text):
        file = repository / path
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.parse("")
        found = function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if not found or (function == "test_row" and case not in rows):
            gone.append(f"{path}::{function}[{case}]")
    return gone


def cells(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables from the one of models on, but for heads."""
    _, _, tables = text.partition("## Kinds of models\n")
    lines = [line.strip() for line in tables.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for at, row in enumerate(rows) if not is_head(rows, at)]


def is_head(rows: list[list[str]], at: int) -> bool:
    return any(set("".join(row)) <= set("-: ") for row in rows[at : at + 2])


def test_every_test_that_is_named_exists(repository):
    assert missing(repository, (repository / TEXT).read_text(encoding="utf-8")) == []


def test_every_line_of_a_table_names_its_test(repository):
    table = cells((repository / TEXT).read_text(encoding="utf-8"))
    assert len(table) > len(MODELS)
    assert [row[0] for row in table if not NODE.search(row[-1]) and "not run" not in row[-1]] == []


def test_every_model_of_the_matrix_has_its_line(repository):
    said = {row[0]: row[1] for row in cells((repository / TEXT).read_text(encoding="utf-8"))}
    assert set(MODELS) <= set(said)
    for name, model in MODELS.items():
        assert said[name].startswith("not yet") == bool(model.refused), name


@pytest.mark.parametrize(
    "node",
    [
        "tests/vllm/test_nowhere.py::test_x",
        "tests/vllm/test_matrix.py::test_x",
        "tests/vllm/test_matrix.py::test_row[a, b, c, d]",
    ],
)
def test_a_test_that_is_gone_is_seen(repository, node):
    assert len(missing(repository, f"| x | `{node}` |")) == 1
