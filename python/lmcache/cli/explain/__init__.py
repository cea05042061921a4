# SPDX-License-Identifier: Apache-2.0
"""`lmcache explain`: why requests hit or missed."""

from __future__ import annotations

from lmcache.cli.explain.command import app

__all__ = ["app"]
