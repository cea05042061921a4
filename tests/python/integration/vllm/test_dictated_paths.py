# SPDX-License-Identifier: Apache-2.0
"""vLLM's own modules find what they import from us, and call it the way it is written.

Covers `lmcache/utils.py`, `lmcache/v1/multiprocess/custom_types.py` and, in this folder, `utils.py`
and `vllm_v1_adapter.py`: paths that vLLM chose; `lmcache_connector_v1.py` is named by deployments.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import types
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="what is compared with is vLLM's")

from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_connector, lmcache_mp_connector
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from lmcache.integration.vllm import vllm_v1_adapter
from lmcache.integration.vllm.connector import LMCacheConnector
from lmcache.integration.vllm.utils import mla_enabled
from lmcache.utils import init_logger
from lmcache.v1.multiprocess.custom_types import RequestAllocationRecord

# A second name that vLLM tries where the first one is missing.
FALLBACKS = {"BlockAllocationRecord"}


def imports_from_us(module):
    """Return (module, name) of everything a module of vLLM imports from this package."""
    tree = ast.parse(Path(module.__file__).read_text())
    return sorted(
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lmcache"
        for alias in node.names
        if alias.name not in FALLBACKS
    )


def engine_calls():
    """Return (method, positional arguments, keywords) of each call vLLM's wrapper makes on us."""
    tree = ast.parse(Path(lmcache_connector.__file__).read_text())
    return sorted(
        (
            node.func.attr,
            len(node.args),
            tuple(keyword.arg for keyword in node.keywords if keyword.arg),
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) in ("self._lmcache_engine", "engine")
    )


@pytest.mark.parametrize("module", [lmcache_connector, lmcache_mp_connector])
def test_every_import_is_there(module):
    wanted = imports_from_us(module)
    assert wanted
    for place, name in wanted:
        assert hasattr(importlib.import_module(place), name), f"{place}.{name}"


def test_vllm_did_not_fall_back_to_what_it_ships():
    adapter = "lmcache.integration.vllm.vllm_multi_process_adapter"
    assert lmcache_mp_connector.LMCacheMPSchedulerAdapter.__module__ == adapter
    assert lmcache_mp_connector.RequestAllocationRecord is RequestAllocationRecord


def test_every_call_of_the_wrapper_fits():
    calls = engine_calls()
    assert len(calls) >= 10
    for name, count, keywords in calls:
        method = getattr(vllm_v1_adapter.LMCacheConnectorV1Impl, name)
        arguments = [None] * (count + 1)  # and self
        inspect.signature(method).bind(*arguments, **dict.fromkeys(keywords))


class Recorder:
    """The connector behind the adapter: writes calls down and returns an answer of its own."""

    def __init__(self, *arguments):
        self.made_with = arguments
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments, **settings):
            self.calls.append((name, *arguments, *settings.items()))
            return (f"answer of {name}", "more")

        return call


@pytest.fixture
def wrapper(monkeypatch):
    """vLLM's `LMCacheConnectorV1` around our adapter, with a recorder behind it."""
    monkeypatch.setattr(vllm_v1_adapter, "LMCacheConnector", Recorder)
    transfer = types.SimpleNamespace(get_from_extra_config=lambda name, default: default)
    config = types.SimpleNamespace(kv_transfer_config=transfer)
    return lmcache_connector.LMCacheConnectorV1(config, KVConnectorRole.WORKER, "kv cache config")


def test_the_wrapper_makes_our_connector(wrapper):
    config, role, kv_cache_config = wrapper._lmcache_engine._connector.made_with
    assert config is wrapper._vllm_config
    assert role is KVConnectorRole.WORKER
    assert kv_cache_config == "kv cache config"


@pytest.mark.parametrize(
    ("method", "arguments", "call"),
    [
        ("register_kv_caches", ({"layer": 1},), ({"layer": 1},)),
        ("bind_connector_metadata", ("plan",), ("plan",)),
        ("start_load_kv", ("context",), ("context",)),
        ("wait_for_layer_load", ("layer",), ("layer",)),
        ("save_kv_layer", ("layer", 1, 2), ("layer", 1, 2)),
        ("wait_for_save", (), ()),
        ("get_finished", ({"r"},), ({"r"},)),
        ("get_block_ids_with_load_errors", (), ()),
        ("get_num_new_matched_tokens", ("request", 3), ("request", 3)),
        ("update_state_after_alloc", ("request", "blocks", 3), ("request", None, 3)),
        ("build_connector_meta", ("output",), ("output",)),
        ("request_finished", ("request", [1]), ("request", [1])),
    ],
)
def test_calls_go_through_the_wrapper_to_our_connector(wrapper, method, arguments, call):
    answer = getattr(wrapper, method)(*arguments)
    assert wrapper._lmcache_engine._connector.calls == [(method, *call)]
    ours = (f"answer of {method}", "more")
    if method == "get_num_new_matched_tokens":  # here the wrapper makes the pair itself
        assert answer == (ours[0], False)
    elif method.startswith(("get", "build", "request")):
        assert answer == ours


def test_a_deployment_names_our_class_by_its_module():
    from vllm.config import KVTransferConfig
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    for name, module in {
        "LMCacheConnectorV1Dynamic": "lmcache_connector_v1",
        "LMCacheMPConnector": "lmcache_mp_connector",
    }.items():
        config = KVTransferConfig(
            kv_connector=name,
            kv_role="kv_both",
            kv_connector_module_path=f"lmcache.integration.vllm.{module}",
        )
        found = KVConnectorFactory.get_connector_class(config)
        assert issubclass(found, LMCacheConnector)
        assert found.__name__ == name
        assert KVConnectorFactory.supports_hma_config(config)


def test_workers_have_no_events(wrapper):
    assert wrapper.get_kv_connector_kv_cache_events() is None
    assert list(wrapper.take_events()) == []


def test_the_schedulers_events_are_ours(monkeypatch):
    monkeypatch.setattr(vllm_v1_adapter, "LMCacheConnector", Recorder)
    transfer = types.SimpleNamespace(get_from_extra_config=lambda name, default: default)
    config = types.SimpleNamespace(kv_transfer_config=transfer)
    wrapper = lmcache_connector.LMCacheConnectorV1(config, KVConnectorRole.SCHEDULER, "kv")
    assert wrapper.take_events() == ("answer of take_events", "more")


@pytest.mark.parametrize("latent", [True, False])
def test_latent_kv_is_what_the_model_says(latent):
    assert mla_enabled(types.SimpleNamespace(use_mla=latent)) is latent


def test_loggers_are_the_standard_ones():
    assert init_logger("lmcache.test") is logging.getLogger("lmcache.test")


def test_records_start_empty_and_share_nothing():
    first, second = RequestAllocationRecord("a"), RequestAllocationRecord(req_id="b")
    first.new_block_ids.append(1)
    first.new_token_ids.append(2)
    assert (second.new_block_ids, second.new_token_ids) == ([], [])
    keywords = {"req_id": "a", "new_block_ids": [1], "new_token_ids": [2]}  # as vLLM makes it
    assert RequestAllocationRecord(**keywords) == first
