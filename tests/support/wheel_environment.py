# SPDX-License-Identifier: Apache-2.0
"""Make an environment that holds the built wheel and sees the packages of the calling one.

Usage: python wheel_environment.py ENVIRONMENT WHEEL_FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def main() -> None:
    """Make it."""
    environment, wheels = Path(sys.argv[1]), Path(sys.argv[2])
    (wheel,) = wheels.glob("*.whl")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    link = environment / "lib" / version / "site-packages" / "packages_of_the_caller.pth"
    link.write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
