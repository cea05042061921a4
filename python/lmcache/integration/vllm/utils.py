# SPDX-License-Identifier: Apache-2.0
"""A name that vLLM's `LMCacheMPConnector` module imports; the file name is vLLM's choice."""

from __future__ import annotations

from typing import Any


def mla_enabled(model_config: Any) -> bool:
    """Return whether a model keeps latent KV that every tensor parallel rank holds alike."""
    return bool(model_config.use_mla)
