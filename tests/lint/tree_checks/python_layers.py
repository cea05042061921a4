# SPDX-License-Identifier: Apache-2.0
"""Python: a module imports units of lower ranks only, and confined packages only where they belong.

Imports inside functions count: hiding one does not remove the coupling. Those below
`if TYPE_CHECKING:` do not, they are gone at run time.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tree_checks import rules, tree


def imported_names(source: str, module: str, is_package: bool) -> list[str]:
    """Return the absolute dotted names that a module imports."""
    parsed = ast.parse(source)
    typing_only: set[int] = set()
    for node in ast.walk(parsed):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            typing_only.update(id(inner) for child in node.body for inner in ast.walk(child))
    names = []
    for node in ast.walk(parsed):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, is_package)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the absolute name of the module in `from ... import`."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def is_below(name: str, parents: tuple[str, ...]) -> bool:
    """Tell whether dotted `name` is one of `parents` or lies below one."""
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def check_import(module: str, name: str) -> list[str]:
    """Return what is wrong with `module` importing `name`."""
    bad = []
    for confined, allowed in rules.PYTHON_CONFINED.items():
        if is_below(name, (confined,)) and not is_below(module, allowed):
            bad.append(f"{module}: import of {confined} is confined to {', '.join(allowed)}")
    mine, theirs = module.split(".")[1:], name.split(".")[1:]
    if not is_below(name, (rules.PYTHON_PACKAGE,)) or not mine or not theirs:
        return bad
    if mine[0] == theirs[0]:
        siblings = len(mine) > 1 and len(theirs) > 1 and mine[1] != theirs[1]
        if siblings and mine[0] in rules.PYTHON_ISOLATED:
            bad.append(f"{module}: imports its sibling {'.'.join(theirs[:2])}")
        return bad
    rank = rules.PYTHON_RANK
    if mine[0] in rank and theirs[0] in rank and rank[theirs[0]] >= rank[mine[0]]:
        bad.append(
            f"{module}: {mine[0]} (rank {rank[mine[0]]}) imports"
            f" {theirs[0]} (rank {rank[theirs[0]]})"
        )
    return bad


def check(root: Path) -> list[str]:
    """Return one line per violation in the tree."""
    bad: set[str] = set()
    top = f"{rules.PYTHON_ROOT}/{rules.PYTHON_PACKAGE}/"
    for path in tree.files(root):
        if not path.startswith(top) or not path.endswith(".py"):
            continue
        parts = list(Path(path).with_suffix("").parts[1:])
        is_package = parts[-1] == "__init__"
        if is_package:
            parts.pop()
        module = ".".join(parts)
        if len(parts) > 1 and parts[1] not in rules.PYTHON_RANK:
            bad.add(f"{module}: unit '{parts[1]}' has no rank")
        for name in imported_names(tree.text(root, path), module, is_package):
            bad.update(check_import(module, name))
    return sorted(bad)
