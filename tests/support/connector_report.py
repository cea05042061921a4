# SPDX-License-Identifier: Apache-2.0
"""Prints, as JSON, how our connector fits the vLLM that this process imports."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vllm
from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_connector
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1

from lmcache.integration.vllm import compat, vllm_v1_adapter
from lmcache.integration.vllm.connector import LMCacheConnector
from lmcache.integration.vllm.features import installed_vllm, read_features
from lmcache.integration.vllm.lmcache_connector_v1 import LMCacheConnectorV1Dynamic
from lmcache.integration.vllm.lmcache_mp_connector import LMCacheMPConnector

CLASSES = (LMCacheConnector, LMCacheConnectorV1Dynamic, LMCacheMPConnector)


def misfits() -> Iterator[str]:
    """Yield each override that could not take what vLLM passes to the method it replaces."""
    for name in vars(LMCacheConnector):
        theirs = getattr(KVConnectorBase_V1, name, None)
        if name.startswith("__") or not callable(theirs):
            continue
        ours = getattr(LMCacheConnector, name)
        wanted, given = inspect.signature(theirs), inspect.signature(ours)
        parts = list(given.parameters.values())
        same = [(part.name, part.kind) for part in parts[: len(wanted.parameters)]]
        more = parts[len(wanted.parameters) :]
        if same != [(part.name, part.kind) for part in wanted.parameters.values()] or any(
            part.default is part.empty for part in more
        ):
            yield f"{name}: {given} for {wanted}"


def wrapper_calls() -> Iterator[tuple[str, int, list[str]]]:
    """Yield each call of vLLM's own wrapper that our adapter could not take."""
    tree = ast.parse(Path(lmcache_connector.__file__).read_text())
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if ast.unparse(node.func.value) not in ("self._lmcache_engine", "engine"):
            continue
        method: Any = getattr(vllm_v1_adapter.LMCacheConnectorV1Impl, node.func.attr, None)
        keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
        try:
            inspect.signature(method).bind(
                *[None] * (len(node.args) + 1), **dict.fromkeys(keywords)
            )
        except TypeError:
            yield node.func.attr, len(node.args), keywords


def main() -> None:
    folder = installed_vllm()
    assert folder is not None
    report = {
        "version": vllm.__version__,
        "folder": str(folder),
        "abstract": sorted({name for cls in CLASSES for name in cls.__abstractmethods__}),
        "misfits": list(misfits()),
        "wrapper": list(wrapper_calls()),
        "features": read_features(folder),
        "compat": {
            "hybrid memory allocator": issubclass(LMCacheConnector, compat.SupportsHMA)
            and compat.SupportsHMA.__module__.startswith("vllm."),
            "hits by tier": compat.hit_source("HOST") is not None,
            "load failures by request": compat.TELLS_FAILED_LOADS,
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
