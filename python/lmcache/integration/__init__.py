# SPDX-License-Identifier: Apache-2.0
"""Serving engines that LMCache plugs into, one folder each."""

from __future__ import annotations
