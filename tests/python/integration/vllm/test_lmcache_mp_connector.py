# SPDX-License-Identifier: Apache-2.0
"""vLLM's own switch for offloading ends at our connector."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("vllm", reason="the connector needs vLLM")

from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

from lmcache.integration.vllm.connector import LMCacheConnector
from lmcache.integration.vllm.lmcache_mp_connector import LMCacheMPConnector

VLLM_MODULE = "vllm.distributed.kv_transfer.kv_connector.v1.lmcache_mp_connector"


@pytest.fixture
def vllm_module():
    """vLLM's module, imported anew under the test's environment and put back as it was."""
    module = importlib.import_module(VLLM_MODULE)
    yield lambda: importlib.reload(module)
    importlib.reload(module)


def test_it_is_our_connector_by_another_name():
    assert issubclass(LMCacheMPConnector, LMCacheConnector)
    own = {name for name in vars(LMCacheMPConnector) if not name.startswith("_")}
    assert own == set()


def test_vllm_takes_it_for_its_own_name(vllm_module, monkeypatch):
    monkeypatch.delenv("LMCACHE_USE_UPSTREAM_MP", raising=False)
    assert vllm_module().LMCacheMPConnector is LMCacheMPConnector
    config = KVTransferConfig(kv_connector="LMCacheMPConnector", kv_role="kv_both")
    assert KVConnectorFactory.get_connector_class(config) is LMCacheMPConnector


def test_the_one_inside_vllm_is_used_only_on_request(vllm_module, monkeypatch):
    monkeypatch.setenv("LMCACHE_USE_UPSTREAM_MP", "1")
    assert not issubclass(vllm_module().LMCacheMPConnector, LMCacheConnector)
