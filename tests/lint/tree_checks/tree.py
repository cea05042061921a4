# SPDX-License-Identifier: Apache-2.0
"""Walk over the files of a source tree, without what was built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tree_checks import rules


def files(root: Path) -> Iterator[str]:
    """Yield every file's path relative to `root`, in order, without built and cached folders."""
    found = []
    for folder, names, leaves in os.walk(root):
        names[:] = [
            name for name in names if name not in rules.SKIPPED_FOLDERS and "_cache" not in name
        ]
        base = Path(folder).relative_to(root)
        found += [(base / leaf).as_posix() for leaf in leaves]
    yield from sorted(found)


def is_source(path: str) -> bool:
    """Tell whether `path` is code of ours (not a text, not data)."""
    if path.startswith("tests/data/"):
        return False
    file = Path(path)
    return (
        file.suffix in rules.SOURCE_SUFFIXES
        or file.name in rules.SOURCE_NAMES
        or path in rules.SOURCE_NAMES
        or path.endswith(".cmake.in")
    )


def text(root: Path, path: str) -> str:
    """Read a source file."""
    return (root / path).read_text(encoding="utf-8")
