# SPDX-License-Identifier: Apache-2.0
"""What users write is told from vLLM's default, however they write it."""

from __future__ import annotations

import json
import pickle
import sys

import pytest

pytest.importorskip("vllm", reason="the configuration is vLLM's")

from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

from lmcache.integration.vllm import plugin
from lmcache.integration.vllm.failure_policy import is_chosen, settle_policy

PLAIN = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
CASES = [
    ({}, "recompute"),
    ({"kv_load_failure_policy": "fail"}, "fail"),
    ({"kv_load_failure_policy": "recompute"}, "recompute"),
]


@pytest.fixture(autouse=True)
def plugin_is_registered():
    plugin.register()
    assert "lmcache.integration.vllm.plugin" in sys.modules


def from_arguments(settings):
    return KVTransferConfig(**PLAIN, **settings)


def from_json_flag(settings):
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    line = ["--kv-transfer-config", json.dumps({**PLAIN, **settings})]
    return EngineArgs.from_cli_args(parser.parse_args(line)).kv_transfer_config


def from_dotted_flags(settings):
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    line = [
        part
        for name, value in {**PLAIN, **settings}.items()
        for part in (f"--kv-transfer-config.{name}", value)
    ]
    return EngineArgs.from_cli_args(parser.parse_args(line)).kv_transfer_config


@pytest.mark.parametrize("written", [from_arguments, from_json_flag, from_dotted_flags])
@pytest.mark.parametrize(("settings", "followed"), CASES)
def test_a_choice_is_followed_and_a_default_is_not(written, settings, followed):
    config = written(settings)
    assert config.kv_connector == "LMCacheConnectorV1"
    assert is_chosen(config) is bool(settings)
    sent = pickle.loads(pickle.dumps(config))  # to the process of the scheduler
    assert settle_policy(sent) == followed
    assert sent.kv_load_failure_policy == followed


def test_the_mark_is_in_no_hash():
    chosen, not_chosen = (from_arguments(settings) for settings in (CASES[1][0], {}))
    assert chosen.compute_hash() == not_chosen.compute_hash()


def test_watching_twice_is_watching_once():
    before = KVTransferConfig.__init__
    plugin.watch_class(KVTransferConfig)
    assert KVTransferConfig.__init__ is before


def test_no_configuration_is_no_choice():
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    assert EngineArgs.from_cli_args(parser.parse_args([])).kv_transfer_config is None
