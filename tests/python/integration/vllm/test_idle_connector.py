# SPDX-License-Identifier: Apache-2.0
"""The connector that does nothing, as vLLM's scheduler and workers call it."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("vllm", reason="the connector is vLLM's")

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from lmcache.integration.vllm.idle_connector import IdleConnector


@pytest.fixture
def connector():
    config = types.SimpleNamespace(kv_transfer_config=types.SimpleNamespace())
    return IdleConnector(config, KVConnectorRole.SCHEDULER, types.SimpleNamespace(num_blocks=16))


def test_it_finds_nothing_and_keeps_no_blocks(connector):
    assert connector.get_num_new_matched_tokens(None, 5) == (0, False)
    connector.update_state_after_alloc(None, None, 0)
    assert connector.request_finished_all_groups(None, ([1],)) == (False, None)
    assert connector.requires_kv_delivery is False


def test_a_step_with_it(connector):
    connector.bind_connector_metadata(connector.build_connector_meta(None))
    connector.start_load_kv(None)
    assert connector.has_connector_metadata() is False  # no layer calls the next two
    connector.wait_for_layer_load("layer0")
    connector.save_kv_layer("layer0", None, None)
    connector.wait_for_save()
    assert connector.get_block_ids_with_load_errors() == set()
    assert connector.get_kv_connector_stats() is None
    connector.clear_connector_metadata()
