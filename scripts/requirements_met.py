# SPDX-License-Identifier: Apache-2.0
"""Tell whether this environment holds what requirement files ask for; prints what is missing.

Usage: python requirements_met.py FILE...   (status 0: all there)
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement


def unmet(requirement: Requirement) -> str | None:
    """Return why the requirement is not met here, or None."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement}: not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement}: {version} is installed"


def main() -> int:
    """Check every requirement of every file named on the command line."""
    missing = []
    for name in sys.argv[1:]:
        for line in Path(name).read_text(encoding="utf-8").splitlines():
            text = line.split("#", 1)[0].strip()
            reason = unmet(Requirement(text)) if text else None
            if reason is not None:
                missing.append(reason)
    print("\n".join(missing) or "all there")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
