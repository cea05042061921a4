# SPDX-License-Identifier: Apache-2.0
"""Which features of vLLM that we use a version has, read from its sources without importing it.

Importing vLLM takes seconds and may fail for reasons of its own; `lmcache doctor` must answer all
the same. Where the sources are not readable, nothing is found.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import NamedTuple

_CONNECTOR = "distributed/kv_transfer/kv_connector/v1/base.py"
_KV_CACHE = "v1/kv_cache_interface.py"


class _Place(NamedTuple):
    file: str
    name: str  # a class, or one of its methods and fields


# Feature -> where vLLM has it.
FEATURES = {
    "hybrid memory allocator": _Place(_CONNECTOR, "SupportsHMA"),
    "load failures by block": _Place(
        _CONNECTOR, "KVConnectorBase_V1.get_block_ids_with_load_errors"
    ),
    "load failures by request": _Place(_CONNECTOR, "KVConnectorTransferResults"),
    "load-failure policy": _Place(
        "config/kv_transfer.py", "KVTransferConfig.kv_load_failure_policy"
    ),
    "layer-wise loads": _Place(_CONNECTOR, "KVConnectorBase_V1.wait_for_layer_load"),
    "reports of workers": _Place(_CONNECTOR, "KVConnectorBase_V1.build_connector_worker_meta"),
    "notice of preemptions": _Place(_CONNECTOR, "KVConnectorBase_V1.handle_preemptions"),
    "cache reset": _Place(_CONNECTOR, "KVConnectorBase_V1.reset_cache"),
    "KV events": _Place(_CONNECTOR, "KVConnectorBase_V1.take_events"),
    "connector statistics": _Place(_CONNECTOR, "KVConnectorBase_V1.get_kv_connector_stats"),
    "Prometheus metrics": _Place(_CONNECTOR, "KVConnectorBase_V1.build_prom_metrics"),
    "hits by tier": _Place(_CONNECTOR, "KVConnectorBase_V1.get_external_cache_hit_sources"),
    "block tables with each step": _Place(
        "v1/core/sched/output.py", "SchedulerOutput.kv_connector_block_state"
    ),
    "KV layout by engine": _Place(_KV_CACHE, "KVCacheConfig.kv_cache_layout"),
    "KV replicas of ranks": _Place(_KV_CACHE, "KVCacheConfig.kv_tp_replicas"),
    "offloading switch": _Place("config/cache.py", "CacheConfig.kv_offloading_backend"),
    "EC connector": _Place("distributed/ec_transfer/ec_connector/base.py", "ECConnectorBase"),
}


def installed_vllm() -> Path | None:
    """Return the folder of the vLLM that this Python would import, None if there is none."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def read_features(folder: Path) -> dict[str, bool]:
    """Return, for each of `FEATURES`, whether the vLLM in a folder has it."""
    names = {file: _names(folder / file) for file in {place.file for place in FEATURES.values()}}
    return {feature: place.name in names[place.file] for feature, place in FEATURES.items()}


def _names(file: Path) -> set[str]:
    """Return the classes of a source file and, with a dot, what their bodies define."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found.update(f"{node.name}.{name}" for part in node.body for name in _defined(part))
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
