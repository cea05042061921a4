# SPDX-License-Identifier: Apache-2.0
"""A name that vLLM's `LMCacheMPConnector` module imports; the file name is vLLM's choice."""

from __future__ import annotations

import logging


def init_logger(name: str) -> logging.Logger:
    """Return the logger of a module."""
    return logging.getLogger(name)
