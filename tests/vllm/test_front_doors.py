# SPDX-License-Identifier: Apache-2.0
"""Every way to switch the cache on in vLLM, each in an engine that then hits."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

PROMPT = [random.Random(9).randrange(3, 2000) for _ in range(300)]
MODULE = "lmcache.integration.vllm.connector"
DOORS: dict[str, dict[str, Any]] = {
    "keyword arguments": {"enable_lmcache": True, "lmcache_config": {"chunk_size": 128}},
    "the name vLLM ships": {
        "kv_transfer_config": {
            "kv_connector": "LMCacheConnectorV1",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"lmcache.chunk_size": 128, "use_native": False},
        }
    },
    "our class by module path": {
        "kv_transfer_config": {
            "kv_connector": "LMCacheConnector",
            "kv_role": "kv_both",
            "kv_connector_module_path": MODULE,
        }
    },
    "vLLM's own switch": {"kv_offloading_size": 0.25, "kv_offloading_backend": "lmcache"},
    "environment": {},
}


@pytest.fixture(scope="module")
def reference(open_llm):
    return open_llm().ask_one(PROMPT)


@pytest.mark.parametrize("door", DOORS)
def test_door(open_llm, reference, segment, monkeypatch, door):
    monkeypatch.setenv("LMCACHE_SEGMENT", f"{segment}-{list(DOORS).index(door)}")
    if door != "vLLM's own switch":
        monkeypatch.setenv("LMCACHE_MAX_LOCAL_CPU_SIZE", "0.25")
    if door == "environment":
        monkeypatch.setenv("VLLM_ENABLE_LMCACHE", "true")
        monkeypatch.setenv("LMCACHE_CHUNK_SIZE", "128")
    llm = open_llm(**DOORS[door])
    try:
        first, again = llm.ask_one(PROMPT), llm.ask_one(PROMPT)
        for answer in (first, again):
            assert answer.differs_from(reference) == ""
        assert (first.cached_tokens, again.cached_tokens) == (0, len(PROMPT) - 1)
        transfer = llm.llm.llm_engine.vllm_config.kv_transfer_config
        assert transfer.kv_load_failure_policy == "recompute"
        engine = llm.worker._attachment.engine
        assert engine.status()["capacity_bytes"] == pytest.approx(0.25e9, rel=0.06)  # whole extents
        roles = {process["role"] for process in engine.status()["processes"]}
        assert roles == {"vllm scheduler", "vllm worker 0"}
    finally:
        llm.close()
        remove_segment(f"{segment}-{list(DOORS).index(door)}")


# As deployments have them that ran a cache server, or named a class by its module.
DEPLOYMENTS = {
    "a cache server": {
        "kv_connector": "LMCacheMPConnector",
        "kv_connector_extra_config": {
            "lmcache.mp.host": "tcp://localhost",
            "lmcache.mp.port": 6555,
            "lmcache.mp.mq_timeout": 60,
            "lmcache.mp.heartbeat_interval": 5,
        },
    },
    "a cache server, by module path": {
        "kv_connector": "LMCacheMPConnector",
        "kv_connector_module_path": "lmcache.integration.vllm.lmcache_mp_connector",
        "kv_connector_extra_config": {
            "lmcache.mp.server_urls": ["tcp://localhost:6555", "tcp://localhost:6556"],
            "lmcache.mp.eager_prefetch": True,
        },
    },
    "a class by module path": {
        "kv_connector": "LMCacheConnectorV1Dynamic",
        "kv_connector_module_path": "lmcache.integration.vllm.lmcache_connector_v1",
        "kv_connector_extra_config": {"lmcache.mp.port": 6555},
    },
}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_existing_deployments_work_as_they_are(
    open_llm, reference, segment, monkeypatch, caplog, deployment
):
    name = f"{segment}-existing-{list(DEPLOYMENTS).index(deployment)}"
    monkeypatch.setenv("LMCACHE_SEGMENT", name)
    monkeypatch.setenv("LMCACHE_MAX_LOCAL_CPU_SIZE", "0.25")
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    settings = DEPLOYMENTS[deployment]
    llm = open_llm(kv_transfer_config={**settings, "kv_role": "kv_both"})
    try:
        first, again = llm.ask_one(PROMPT), llm.ask_one(PROMPT)
        assert first.differs_from(reference) == again.differs_from(reference) == ""
        assert (first.cached_tokens, again.cached_tokens) == (0, len(PROMPT) - 1)
        # By identity: pytest may listen at vLLM's logger as well as at the root.
        records = {id(record): record.getMessage() for record in caplog.records}
        [said] = [line for line in records.values() if "replaces the cache server" in line]
        assert all(key in said for key in settings["kv_connector_extra_config"])
    finally:
        llm.close()
        remove_segment(name)


def remove_segment(name: str) -> None:
    from lmcache import _native

    assert _native.remove_segment(_native.segment_path(name))


def test_flags_of_the_command_line(tiny_model):
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
    line = [
        "--model",
        str(tiny_model),
        "--enable-lmcache",
        "--lmcache-config",
        '{"chunk_size": 64}',
    ]
    config = AsyncEngineArgs.from_cli_args(parser.parse_args(line)).create_engine_config()
    assert config.kv_transfer_config.kv_connector_module_path == MODULE
    assert config.kv_transfer_config.kv_connector_extra_config == {"lmcache.chunk_size": 64}
    plain = AsyncEngineArgs.from_cli_args(parser.parse_args(line[:2])).create_engine_config()
    assert plain.kv_transfer_config is None


def test_a_wrong_setting_ends_the_start_and_names_itself(open_llm):
    from lmcache.errors import ConfigError

    with pytest.raises(ConfigError, match=r"chunk_sice.*chunk_size"):
        open_llm(enable_lmcache=True, lmcache_config={"chunk_sice": 64})
