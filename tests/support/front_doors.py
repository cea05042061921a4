# SPDX-License-Identifier: Apache-2.0
"""The same configuration of the cache, given to vLLM in each of the ways there are."""

from __future__ import annotations

from typing import Any

from matrix_table import ENVIRONMENT, KEYWORDS, MODULE_PATH, SHIPPED, SWITCH

MODULE = "lmcache.integration.vllm.connector"


def through(door: str, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments of vLLM, and variables of the environment."""
    if door == KEYWORDS:
        return {"enable_lmcache": True, "lmcache_config": config}, {}
    extra: dict[str, Any] = {f"lmcache.{name}": value for name, value in config.items()}
    transfer: dict[str, Any] = {"kv_role": "kv_both"}
    if door == SHIPPED:
        transfer |= {"kv_connector": "LMCacheConnectorV1"}
        transfer |= {"kv_connector_extra_config": extra | {"use_native": False}}
        return {"kv_transfer_config": transfer}, {}
    if door == MODULE_PATH:
        transfer |= {"kv_connector": "LMCacheConnector", "kv_connector_module_path": MODULE}
        transfer |= {"kv_connector_extra_config": extra}
        return {"kv_transfer_config": transfer}, {}
    variables = {f"LMCACHE_{name.upper()}": str(value) for name, value in config.items()}
    if door == ENVIRONMENT:
        return {}, {"VLLM_ENABLE_LMCACHE": "true", **variables}
    assert door == SWITCH
    size = config["max_local_cpu_size"]
    del variables["LMCACHE_MAX_LOCAL_CPU_SIZE"]
    return {"kv_offloading_size": size, "kv_offloading_backend": "lmcache"}, variables
