# SPDX-License-Identifier: Apache-2.0
"""The command `lmcache`. Each command is one module, named in the table of `lmcache.cli.app`."""

from __future__ import annotations

from lmcache.cli.app import main

__all__ = ["main"]
