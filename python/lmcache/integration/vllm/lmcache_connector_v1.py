# SPDX-License-Identifier: Apache-2.0
"""Front door of existing deployments that name a class of LMCache's own by module path. vLLM
imports both by these names.

    --kv-transfer-config '{"kv_connector": "LMCacheConnectorV1Dynamic", "kv_role": "kv_both",
      "kv_connector_module_path": "lmcache.integration.vllm.lmcache_connector_v1"}'
"""

from __future__ import annotations

from lmcache.integration.vllm.connector import LMCacheConnector


class LMCacheConnectorV1Dynamic(LMCacheConnector):
    """The same connector by its name in existing deployments."""
