# SPDX-License-Identifier: Apache-2.0
"""`lmcache status`: what the segment of this node holds, and who uses it."""

from __future__ import annotations

from lmcache.cli.status.command import app

__all__ = ["app"]
