# SPDX-License-Identifier: Apache-2.0
"""`python -m lmcache.cli` is `lmcache`."""

from __future__ import annotations

from lmcache.cli.app import main

if __name__ == "__main__":
    main()
