# SPDX-License-Identifier: Apache-2.0
"""Settings of what is cached, and in which pieces."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Choice, ChunkTokens, Seconds, Tokens


class ChunkOptions(BaseModel):
    """Chunks: what is cached, and in which pieces"""

    # Tokens. Smaller pieces find more in common between prompts, larger ones copy faster.
    chunk_size: ChunkTokens = option(
        256,
        "Tokens per chunk, the unit that is stored, found and evicted. A multiple of the engine's "
        "block size; another value is rounded up with one warning.",
    )
    # A short prompt, and the end of a long one, would otherwise never be found again.
    save_unfull_chunk: bool = option(
        True, "Keep the last chunk of a prompt although it is shorter than `chunk_size`."
    )
    # The switch to measure a server without the cache while leaving everything else in place.
    enable_prefix_cache: bool = option(
        True, "Store prompts and find their prefixes. False: store nothing and look nothing up."
    )
    retrieval_mode: Choice[Literal["exact", "semantic"]] = option(
        "exact",
        "`exact` reuses the KV of an equal prefix; `semantic` reuses document segments at any "
        "position.",
    )
    # Costs memory for every answer, and pays only when the answer comes back as part of a prompt.
    conversation_mode: bool = option(
        False, "Store generated tokens too, so that the next turn of a conversation finds them."
    )
    # Tokens. Below some length recomputing is as fast as loading.
    min_retrieve_tokens: Tokens = option(0, "Do not load a hit of fewer tokens than this.")
    # Seconds. For data that must not outlive a retention period, in any tier.
    ttl: Seconds | None = option(None, "Seconds a chunk may live, in every tier; none: no limit.")
    enable_vision_cache: bool = option(False, "Cache the outputs of vision encoders.")
