# SPDX-License-Identifier: Apache-2.0
"""Which settings reach us from vLLM, and which segment they open."""

from __future__ import annotations

import logging
import os
import types
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="the configuration objects are vLLM's")

from engine_config import LAYERS, make_kv_cache_config, make_vllm_config, write_small_model

from lmcache import _native
from lmcache.errors import ConfigError, OutOfMemoryError, UnavailableError
from lmcache.integration.vllm import attachment as module
from lmcache.integration.vllm.attachment import attach, read_config

SMALL = {"lmcache.max_local_cpu_size": 0.02}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("LMCACHE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model without usable weights."""
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def place(tmp_path, segment):
    """A segment in a folder of the test's own."""
    return str(tmp_path / segment)


@pytest.fixture
def join(folder):
    """Return a function that attaches one process of an engine."""
    attached = []

    def start(config, rank=None, kv_cache_config=None):
        settings = read_config(config)
        attached.append(attach(settings, config, kv_cache_config or make_kv_cache_config(), rank))
        return attached[-1]

    yield start
    for one in attached:
        one.engine.close()


def test_both_spellings_are_ours_and_vllms_own_keys_are_not(folder):
    extra = {
        "lmcache.chunk_size": 64,
        "use_layerwise": True,
        "use_native": False,
        "shared_storage_path": "/nowhere",
        "engine_name": "x",
    }
    config = read_config(make_vllm_config(folder, extra))
    assert config.chunk_size == 64
    assert config.use_layerwise is True


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"lmcache.chunk_sice": 64}, r"chunk_sice.*chunk_size"),
        ({"chunk_sice": 64}, r"chunk_sice.*chunk_size"),
        ({"lmcache.chunk_size": "many"}, "chunk_size"),
        ({"lmcache.segment": "../x"}, "segment"),
    ],
)
def test_mistakes_name_the_key_and_the_dictionary(folder, extra, says):
    with pytest.raises(ConfigError, match=says) as caught:
        read_config(make_vllm_config(folder, extra))
    assert "kv_connector_extra_config" in str(caught.value)


def offloading(folder, extra):
    """Return what vLLM makes of its own switch for offloading."""
    config = make_vllm_config(
        folder,
        kv_transfer_config=None,
        kv_offloading_size=0.5,
        kv_offloading_backend="lmcache",
    )
    config.kv_transfer_config.kv_connector_extra_config.update(extra)
    return config


def test_vllms_offloading_size_is_the_size_of_the_memory_tier(folder):
    config = offloading(folder, {})
    assert config.kv_transfer_config.kv_connector == "LMCacheMPConnector"
    assert read_config(config).max_local_cpu_size == 0.5
    assert read_config(make_vllm_config(folder)).max_local_cpu_size != 0.5


@pytest.mark.parametrize("name", ["max_local_cpu_size", "lmcache.max_local_cpu_size"])
def test_a_size_of_ours_comes_before_vllms(folder, name):
    assert read_config(offloading(folder, {name: 0.25})).max_local_cpu_size == 0.25


def test_scheduler_and_ranks_meet_in_one_namespace(folder, place, join):
    extra = {**SMALL, "lmcache.segment": place}
    config = make_vllm_config(folder, extra, parallel={"tensor_parallel_size": 2})
    scheduler = join(config)
    space = scheduler.namespace
    assert scheduler.engine.lane_block_bytes(space) == [0, 0]
    workers = [join(config, rank) for rank in (1, 0)]
    block_bytes = workers[0].geometry.groups[0].block_bytes
    assert scheduler.engine.lane_block_bytes(space) == [block_bytes] * 2
    assert {worker.namespace.root for worker in workers} == {space.root}


def test_a_rank_that_holds_a_copy_declares_nothing(folder, place, join):
    extra = {**SMALL, "lmcache.segment": place}
    config = make_vllm_config(folder, extra, parallel={"tensor_parallel_size": 2})
    replicated = make_kv_cache_config(kv_tp_replicas=2)
    copy = join(config, 1, replicated)
    assert copy.engine.lane_block_bytes(copy.namespace) == [0]
    join(config, 0, replicated)
    assert copy.engine.lane_block_bytes(copy.namespace) == [copy.geometry.groups[0].block_bytes]


def test_a_private_segment_is_shared_by_the_processes_of_one_engine(folder, join):
    first, second = (make_vllm_config(folder, {**SMALL, "segment": "private"}) for _ in range(2))
    assert first.kv_transfer_config.engine_id != second.kv_transfer_config.engine_id
    scheduler, stranger = join(first), join(second)
    join(first, 0)
    assert 0 not in scheduler.engine.lane_block_bytes(scheduler.namespace)
    assert stranger.engine.lane_block_bytes(stranger.namespace) == [0]


def test_a_private_segment_goes_with_its_engine(folder, monkeypatch):
    options = []
    real = _native.EngineOptions
    monkeypatch.setattr(
        _native, "EngineOptions", lambda **values: options.append(values) or real(**values)
    )
    config = make_vllm_config(folder, {**SMALL, "segment": "private"})
    attached = attach(read_config(config), config, make_kv_cache_config(), None)
    path = Path(_native.segment_path(options[0]["segment"]))
    assert path.exists()
    assert options[0]["role"] == "vllm scheduler"
    ids_bytes = 256 + 4 * attached.geometry.chunk_tokens  # and a header
    assert options[0]["chunk_bytes_hint"] == (
        attached.geometry.chunk_tokens * attached.geometry.slot_token_bytes + ids_bytes
    )
    attached.engine.close()
    assert not path.exists()


@pytest.mark.parametrize("policy", ["lru", "fifo", "mru", "lfu", "arc", "s3fifo"])
def test_every_policy_attaches_and_missing_ones_are_told(folder, place, join, policy, caplog):
    extra = {**SMALL, "segment": place, "eviction_policy": policy}
    with caplog.at_level(logging.WARNING, "vllm.lmcache"):
        join(make_vllm_config(folder, extra))
    assert ("evicted by lru" in caplog.text) is (policy in ("lfu", "arc", "s3fifo"))


def test_only_the_scheduler_speaks(folder, place, join, caplog):
    extra = {**SMALL, "segment": place, "chunk_size": 250, "enable_p2p": True}
    config = make_vllm_config(folder, extra)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "vllm.lmcache"):
        join(config, 0)
        assert caplog.messages == []
        join(config)
    assert "enable_p2p" in caplog.text
    assert "chunk_size 250 is not possible with this model" in caplog.text
    assert "(vLLM's blocks have 32 tokens); using 256" in caplog.text


def test_what_cannot_be_kept_opens_no_segment(folder, place, join):
    config = make_vllm_config(folder, {**SMALL, "segment": place})
    with pytest.raises(UnavailableError, match="the model has no KV cache"):
        join(config, None, make_kv_cache_config(kv_cache_groups=[]))
    assert list(Path(place).parent.iterdir()) == []


def test_salts_of_any_length_are_told_apart(folder, place, join):
    attached = join(make_vllm_config(folder, {**SMALL, "segment": place}))
    salts = ["", "a", "x" * 1024, "x" * 9000, "x" * 9001]
    roots = [attached.open_namespace("", salt, "").root for salt in salts]
    assert len(set(roots)) == len(salts)
    assert attached.open_namespace("", salts[-1], "").root == roots[-1]
    assert roots[0] == attached.namespace.root


def test_an_engine_without_a_namespace_is_closed_again(folder, monkeypatch):
    closed = []

    def refuse(spec):
        raise OutOfMemoryError("the table is full")

    engine = types.SimpleNamespace(open_namespace=refuse, close=lambda: closed.append(True))
    monkeypatch.setattr(module, "_open_engine", lambda *arguments: engine)
    config = make_vllm_config(folder, SMALL)
    with pytest.raises(OutOfMemoryError):
        attach(read_config(config), config, make_kv_cache_config(layers=LAYERS), 0)
    assert closed == [True]


def test_the_processes_of_an_engine_have_one_name(folder, place, join):
    config = make_vllm_config(folder, {**SMALL, "lmcache.segment": place})
    join(config)
    processes = join(config, rank=0).engine.status()["processes"]
    assert len(processes) == 2
    (name,) = {process["instance_id"] for process in processes}
    assert name.endswith(config.kv_transfer_config.engine_id[:8])
