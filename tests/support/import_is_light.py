# SPDX-License-Identifier: Apache-2.0
"""Fail unless the installed lmcache is complete and imports neither torch nor vLLM.

Usage: python import_is_light.py     (with the Python of an environment that holds the wheel)
"""

from __future__ import annotations

import sys
from pathlib import Path

import lmcache


def main() -> None:
    """Check."""
    package = Path(lmcache.__file__).parent
    heavy = sorted({"torch", "vllm", "transformers", "matplotlib"} & set(sys.modules))
    assert not heavy, f"import lmcache imports {heavy}"
    assert "site-packages" in package.parts, f"{package} is not the installed wheel"
    assert list(package.glob("_native*.so")), f"no _native in {package}"
    assert (package / "lib" / "liblmcache.so").is_file()
    assert list((package / "include" / "lmcache").rglob("*.hpp"))
    assert (Path(lmcache.cmake_dir()) / "lmcacheConfig.cmake").is_file()
    print(f"{package}: complete")


if __name__ == "__main__":
    main()
