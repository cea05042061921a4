# SPDX-License-Identifier: Apache-2.0
"""Remote stores whose best client is a Python library."""

from __future__ import annotations

from lmcache.remote.base import Remote, RemoteUse

__all__ = ["Remote", "RemoteUse"]
