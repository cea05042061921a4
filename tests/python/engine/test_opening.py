# SPDX-License-Identifier: Apache-2.0
"""A configuration becomes a segment, or a message that says what to do."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from lmcache import LMCacheConfig, LMCacheEngine
from lmcache.engine import opening
from lmcache.engine.opening import lower_tier_options, open_native, remote_options, slot_bytes
from lmcache.errors import InvalidArgumentError, OutOfMemoryError


def config(segment: str, **settings: Any) -> LMCacheConfig:
    return LMCacheConfig(**{"segment": segment, "max_local_cpu_size": 0.03, **settings})


def test_a_named_segment_stays(segment: str) -> None:
    engine = open_native(config(segment), role="test")
    path = Path(engine.status()["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    engine.close()
    assert path.exists()


def test_a_share_of_the_memory_is_always_there(segment: str) -> None:
    settings = LMCacheConfig(segment=segment, local_cpu_ratio=0.001)
    engine = open_native(settings, role="test")
    assert engine.status()["capacity_bytes"] > 0
    engine.close()


@pytest.mark.parametrize("private", [True, False])
def test_memory_that_is_not_there(segment: str, private: bool) -> None:
    place = "private" if private else segment
    with pytest.raises(OutOfMemoryError) as caught:
        open_native(config(place, max_local_cpu_size=100_000), role="test")
    message = str(caught.value)
    assert "max_local_cpu_size" in message
    assert " free" in message


def test_the_free_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "available_memory_bytes", lambda: 20_000_000)
    with pytest.raises(OutOfMemoryError) as caught:
        open_native(config("private"), role="test")
    assert str(caught.value) == (
        "max_local_cpu_size = 0.03 GB (argument): only 0.0 GB of memory are free on this machine, "
        "or left in its cgroup"
    )


def test_another_size_is_told_and_changes_nothing(
    segment: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_native(config(segment), role="test")
    with caplog.at_level(logging.INFO, "lmcache"):
        second = open_native(config(segment, max_local_cpu_size=0.3), role="test")
    lines = [line for line in caplog.messages if "exists with" in line]
    assert len(lines) == 1
    assert "300 MB asked for" in lines[0]
    assert second.status()["capacity_bytes"] == first.status()["capacity_bytes"]
    second.close()
    first.close()


def test_what_is_not_in_this_version_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    settings = config("private", eviction_policy="lfu", compression="lz4")
    open_native(settings, role="test").close()
    lines = [line for line in caplog.messages if line.startswith("continuing without")]
    assert len(lines) == 1
    assert "eviction_policy=lfu" in lines[0]
    assert "compression=lz4" in lines[0]


@pytest.mark.parametrize("scheme", ["lm"])
def test_a_remote_store_without_a_client_is_one_line(
    caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    settings = config("private", remote_url=f"{scheme}://me:secret@host/x")
    assert remote_options(settings) == {}
    engine = open_native(settings, role="test")
    assert not engine.has_lower_tier
    engine.close()
    (line,) = [line for line in caplog.messages if "remote" in line]
    assert line.startswith(f"continuing without what was asked for: remote_url={scheme}://me:***@")
    assert "secret" not in caplog.text


def test_a_remote_store_that_is_switched_off() -> None:
    settings = config("private", remote_url="redis://host", enable_remote_cache=False)
    assert remote_options(settings) == {}


def test_what_the_native_engine_is_told_of_a_remote_store() -> None:
    settings = config(
        "private",
        remote_url="redis://host",
        remote_user="me",
        remote_password="sesame",
        remote_serde="naive",
        remote_connections=7,
        remote_lookup_timeout_ms=50,
        remote_lookup_kept_ms=60,
        blocking_timeout_secs=0.25,
        load_policy="always",
        write_behind_bytes=1000,
    )
    assert lower_tier_options(settings) == {
        "write_behind_bytes": 1000,
        "always_fetch": True,
        "remote_url": "redis://host",
        "remote_user": "me",
        "remote_password": "sesame",
        "remote_serde": "naive",
        "remote_connections": 7,
        "remote_lookup_timeout_ms": 50,
        "remote_timeout_ms": 250,
        "remote_lookup_kept_ms": 60,
    }


@pytest.mark.parametrize(("device", "pool_bytes"), [("auto", 2 * 10**9), ("cpu", 0)])
def test_the_native_engine_is_told_of_the_pool_in_gpu_memory(
    monkeypatch: pytest.MonkeyPatch, device: str, pool_bytes: int
) -> None:
    told: dict[str, Any] = {}
    options = opening._native.EngineOptions

    def note(**given: Any) -> Any:
        told.update(given)
        return options(**given)

    monkeypatch.setattr(opening._native, "EngineOptions", note)
    settings = config("private", local_device=device, max_local_device_size=2)
    engine = open_native(settings, role="test")
    (process,) = engine.status()["processes"]
    engine.close()
    assert told["device_pool_bytes"] == pool_bytes
    assert process["device_capacity_bytes"] == 0  # taken when KV on a GPU is registered


def test_an_address_that_is_none() -> None:
    with pytest.raises(InvalidArgumentError, match="bad database") as caught:
        open_native(config("private", remote_url="redis://me:secret@host/x"), role="test")
    assert "secret" not in str(caught.value)


def test_an_own_log(segment: str) -> None:
    lines: list[tuple[int, str]] = []
    settings = config(segment, enable_p2p=True)
    open_native(settings, role="test", log=lambda *line: lines.append(line)).close()
    assert [level for level, _ in lines] == [logging.WARNING]


def test_who_is_attached_is_seen(segment: str) -> None:
    settings = config(segment, lmcache_instance_id="node-7")
    with LMCacheEngine(settings, role="indexer") as engine:
        (process,) = engine.observed.segment()["processes"]
    assert (process["pid"], process["role"]) == (os.getpid(), "indexer")
    assert process["instance_id"] == "node-7"


def test_a_file_that_is_no_segment(segment: str) -> None:
    folder, name = os.path.split(segment)
    path = Path(folder, f"lmcache-{os.geteuid()}-{name}")
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o600)
    with pytest.raises(InvalidArgumentError, match="is not a segment of ours"):
        open_native(config(segment), role="test")
    path.chmod(0o644)
    with pytest.raises(InvalidArgumentError, match="its mode must be 0600"):
        open_native(config(segment), role="test")
    assert path.read_bytes() == b"x" * 100_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_segment_of_another_user(segment: str) -> None:
    engine = open_native(config(segment), role="test")
    path = engine.status()["path"]
    engine.close()
    os.chown(path, 12345, 12345)
    with pytest.raises(InvalidArgumentError, match="belongs to user 12345, we are user 0"):
        open_native(config(segment), role="test")


def test_the_hint_is_what_a_chunk_takes(segment: str) -> None:
    """Extents made for a chunk must not lose the room of one for a few token ids."""
    from lmcache import KVGeometry

    geometry = KVGeometry(layers=16, kv_heads=2, head_dim=32, dtype="float16")
    assert geometry.token_bytes * 256 == 1 << 20
    settings = {"segment": segment, "max_local_cpu_size": 0.3}
    with LMCacheEngine(settings, geometry=geometry) as engine:
        status = engine.observed.segment()
    chunks = status["extent_bytes"] // slot_bytes(geometry.token_bytes, 256)
    assert chunks * geometry.token_bytes * 256 > 0.9 * status["extent_bytes"]
