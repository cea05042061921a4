# SPDX-License-Identifier: Apache-2.0
"""`lmcache doctor`: whether this machine suits the configuration, and what to do if not."""

from __future__ import annotations

from lmcache.cli.doctor.command import app

__all__ = ["app"]
