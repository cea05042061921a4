# SPDX-License-Identifier: Apache-2.0
"""Settings of substring reuse: KV found at another position, corrected by recomputing a part."""

from __future__ import annotations

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Layers, Shares, Tokens


class BlendingOptions(BaseModel):
    """Blending: reuse of text that is not a prefix"""

    enable_blending: bool = option(
        False, "Reuse stored text at any position and recompute a part of its tokens."
    )
    # Shares of the tokens, one per checked layer. 0.15 is the figure of the CacheBlend paper.
    blend_recompute_ratios: Shares = option(
        (0.15,), "Share of the reused tokens to recompute, one number per checked layer."
    )
    blend_check_layers: Layers = option(
        (1,), "Layers whose KV is compared to choose the tokens to recompute."
    )
    blend_special_str: str = option(" # # ", "Text that separates the reusable pieces of a prompt.")
    # Tokens. Shorter pieces cost more to correct than to compute.
    blend_min_tokens: Tokens = option(256, "Shortest piece worth reusing, in tokens.")
