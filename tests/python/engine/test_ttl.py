# SPDX-License-Identifier: Apache-2.0
"""What has expired is gone in memory, on disk and in a remote store; what has not is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kv_arrays import empty_kv, is_kv_of, is_untouched, kv_of
from redis_server import connected, until

from lmcache import LMCacheEngine

PROMPT = list(range(100))
CHUNKS = 7


def open_engine(**settings: Any) -> LMCacheEngine:
    config = {
        "segment": "private",
        "max_local_cpu_size": 0.03,
        "chunk_size": 16,
        "load_policy": "always",
        "remote_lookup_timeout_ms": 5000,
        "remote_lookup_kept_ms": 10,
        **settings,
    }
    engine = LMCacheEngine(config, model="m")
    until(lambda: "remote_url" not in settings or connected(engine))
    return engine


def read(engine: LMCacheEngine) -> int:
    out = empty_kv(len(PROMPT))
    found = engine.retrieve(PROMPT, out)
    assert is_kv_of(out, PROMPT[:found])
    assert is_untouched(out, found)
    return found


def disk(folder: Path) -> dict[str, Any]:
    return {"local_disk": str(folder), "max_local_disk_size": 0.1}


def test_expired_chunks_are_gone_in_every_tier(redis_server: Any, tmp_path: Path) -> None:
    """Beside each tier with a second to live stands one without end, which shows that it works."""
    brief = {**disk(tmp_path / "brief"), "remote_url": f"{redis_server.url}/0"}
    lasting = {**disk(tmp_path / "lasting"), "remote_url": f"{redis_server.url}/1"}
    memory = {ttl: open_engine(**({"ttl": ttl} if ttl else {})) for ttl in (1, None)}
    for engine in memory.values():
        engine.store(PROMPT, kv_of(PROMPT))
    for settings in ({**brief, "ttl": 1}, lasting):
        with open_engine(**settings) as engine:
            assert engine.store(PROMPT, kv_of(PROMPT)) == len(PROMPT)
            engine.flush()
            counts = engine._native.stats()
            assert counts["remote_written_chunks"] == counts["disk_written_chunks"] == CHUNKS

    until(lambda: redis_server.chunks(0) == [])
    assert len(redis_server.chunks(1)) == CHUNKS
    until(lambda: read(memory[1]) == 0)
    assert read(memory[None]) == len(PROMPT)
    for engine in memory.values():
        engine.close()
    for tier in ("disk", "remote"):
        for settings, found in ((brief, 0), (lasting, len(PROMPT))):
            only = {
                key: value for key, value in settings.items() if ("disk" in key) == (tier == "disk")
            }
            with open_engine(**only) as engine:
                until(lambda: read(engine) == found)  # noqa: B023
                counts = engine._native.stats()
                assert counts[f"{tier}_read_chunks"] == (CHUNKS if found else 0)
                assert counts[f"{tier}_corrupt_chunks"] == 0
