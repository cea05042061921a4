# SPDX-License-Identifier: Apache-2.0
"""Check a tree: python -m tree_checks [ROOT]   (status 1 and one line per violation)."""

from __future__ import annotations

import sys
from pathlib import Path

from tree_checks import cpp_layers, layout, python_layers


def main() -> int:
    """Run every check."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    bad = cpp_layers.check(root) + python_layers.check(root) + layout.check(root)
    print("\n".join(bad) or "tree: ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
