# SPDX-License-Identifier: Apache-2.0
"""A name that vLLM's `LMCacheMPConnector` module imports; the file name is vLLM's choice."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RequestAllocationRecord:
    """Blocks vLLM gave to a request, as a cache server would be told of them."""

    req_id: str
    new_block_ids: list[int] = field(default_factory=list)
    new_token_ids: list[int] = field(default_factory=list)
