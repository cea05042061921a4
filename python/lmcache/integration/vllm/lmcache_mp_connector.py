# SPDX-License-Identifier: Apache-2.0
"""Front door 3: `LMCacheMPConnector`, which vLLM picks for its own switch. It imports this by name.

    --kv-offloading-size 20 --kv-offloading-backend lmcache

The size is that of the DRAM tier in GB (see `attachment.read_config`). No server process is needed:
the segment takes its place.
"""

from __future__ import annotations

from lmcache.integration.vllm.connector import LMCacheConnector


class LMCacheMPConnector(LMCacheConnector):
    """The same connector by vLLM's name for it."""
