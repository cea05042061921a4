# SPDX-License-Identifier: Apache-2.0
"""C++: a file includes units of lower ranks only, and confined headers only where they belong."""

from __future__ import annotations

import re
from pathlib import Path

from tree_checks import rules, tree

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def below_root(path: str) -> list[str]:
    """Return the folders between the C++ root that holds `path` and the file; empty outside."""
    for root in rules.CPP_ROOTS:
        if path.startswith(root + "/"):
            return path[len(root) + 1 :].split("/")[:-1]
    return path.split("/")[:1] if path.startswith("cuda/") else []


def check_include(path: str, quote: str, header: str) -> list[str]:
    """Return what is wrong with one #include of `path`."""
    bad = []
    for pattern, allowed in rules.CPP_CONFINED.items():
        if re.search(pattern, header) and not path.startswith(allowed):
            bad.append(f"{path}: <{header}> is confined to {', '.join(allowed)}")
    if header.startswith("../") or "/../" in header:
        bad.append(f'{path}: "{header}" climbs out of its folder; name it from the root')

    public = header.startswith("lmcache/")
    folders = header.removeprefix("lmcache/").split("/")[:-1]
    if not folders or folders[0] not in rules.CPP_RANK:
        return bad
    if public and quote == '"':
        bad.append(f'{path}: "{header}" is public; include it as <{header}>')
    if not public and path.startswith(rules.CPP_PUBLIC_ONLY):
        bad.append(f'{path}: may include public headers only, not "{header}"')
    return bad + check_rank(path, folders)


def check_rank(path: str, target: list[str]) -> list[str]:
    """Return what is wrong with `path` depending on the unit folders `target`."""
    here = below_root(path)
    if not here or here[0] not in rules.CPP_RANK:
        return []
    if here[0] == target[0]:
        siblings = len(here) > 1 and len(target) > 1 and here[1] != target[1]
        if siblings and here[0] in rules.CPP_ISOLATED:
            return [f"{path}: {'/'.join(here[:2])} includes its sibling {'/'.join(target[:2])}"]
        return []
    mine, theirs = rules.CPP_RANK[here[0]], rules.CPP_RANK[target[0]]
    if theirs >= mine:
        return [f"{path}: {here[0]} (rank {mine}) includes {target[0]} (rank {theirs})"]
    return []


def check(root: Path) -> list[str]:
    """Return one line per violation in the tree."""
    bad = []
    for path in tree.files(root):
        if Path(path).suffix not in rules.CPP_SUFFIXES:
            continue
        here = below_root(path)
        if path.startswith(rules.CPP_ROOTS) and not here:
            bad.append(f"{path}: lies in no unit folder")
        if here and here[0] not in rules.CPP_RANK:
            bad.append(f"{path}: unit '{here[0]}' has no rank")
        for quote, header in INCLUDE.findall(tree.text(root, path)):
            bad += check_include(path, quote, header)
    return bad
