# SPDX-License-Identifier: Apache-2.0
"""One process's attachment to the segment, with the namespace of the engine it belongs to."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmcache.config import (
    LMCacheConfig,
    capacity_bytes,
    eviction_in_use,
    load_config,
    unavailable_line,
)
from lmcache.errors import LMCacheError, UnavailableError
from lmcache.integration.vllm.geometry import EngineGeometry, Refusal, read_geometry

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.kv_events import ChunkEvents

log = logging.getLogger("vllm.lmcache")

# Keys that vLLM's own connectors keep in the dictionary which they share with us.
_OF_VLLM = frozenset({"use_native", "shared_storage_path", "engine_name"})
# The native library takes strings of 4 kB.
_LONGEST_SALT = 1024


@dataclass(frozen=True)
class Attachment:
    """Engine, geometry and plain namespace; each half of each process has its own."""

    engine: _native.Engine
    geometry: EngineGeometry
    namespace: _native.Namespace
    events: ChunkEvents | None = None  # in the scheduler, if vLLM publishes them

    def open_namespace(self, lora: str, salt: str, epoch: str) -> _native.Namespace:
        """Return the namespace of an adapter and a salt, made on the spot if it is new.

        `epoch` sets an engine apart whose weights may no longer be those in the files.
        """
        from lmcache import _native

        if len(salt) > _LONGEST_SALT:
            salt = "sha256:" + hashlib.sha256(salt.encode()).hexdigest()
        return self.engine.open_namespace(self.geometry.namespace(_native, lora, salt, epoch))


def read_config(vllm_config: Any) -> LMCacheConfig:
    """Return the configuration of this engine: vLLM's dictionary for connectors, environment, file.

    Raises ConfigError, which ends the start of vLLM: a wrong setting is the user's to correct.
    """
    transfer = vllm_config.kv_transfer_config
    extra: Mapping[str, Any] = transfer.kv_connector_extra_config or {}
    arguments = {key: value for key, value in extra.items() if key not in _OF_VLLM}
    size = getattr(vllm_config.cache_config, "kv_offloading_size", None)
    if size is not None:
        arguments = _with_offloading_size(arguments, float(size))
    # Each half of each process reads it; its warnings are said by one (`halves`).
    return load_config(arguments, argument_name="kv_connector_extra_config", log_warnings=False)


def _with_offloading_size(arguments: dict[str, Any], size_gb: float) -> dict[str, Any]:
    """Take vLLM's `--kv-offloading-size` as the size of the DRAM tier, unless that is set too."""
    names = ("max_local_cpu_size", "lmcache.max_local_cpu_size")
    if any(name in arguments for name in names):
        return arguments
    return {**arguments, "max_local_cpu_size": size_gb}


def attach(
    config: LMCacheConfig, vllm_config: Any, kv_cache_config: Any, rank: int | None
) -> Attachment:
    """Attach to the segment as the scheduler (`rank` None) or as a worker.

    Raises LMCacheError when this engine's KV cannot be cached or the segment cannot be had.
    """
    geometry = read_geometry(vllm_config, kv_cache_config, config.chunk_size, rank)
    if isinstance(geometry, Refusal):
        raise UnavailableError(geometry.reason)
    if rank is None:
        _say_once(config, geometry)
    engine = _open_engine(config, geometry, vllm_config, rank)
    try:
        from lmcache import _native

        namespace = engine.open_namespace(geometry.namespace(_native))
        if geometry.owns_lanes:
            for index, group in enumerate(geometry.groups):
                engine.declare_lane(namespace, geometry.lane(index), group.block_bytes)
    except LMCacheError:
        engine.close()
        raise
    return Attachment(engine, geometry, namespace)


def _say_once(config: LMCacheConfig, geometry: EngineGeometry) -> None:
    line = unavailable_line(config)
    if line:
        log.warning("LMCache: %s", line)
    if geometry.chunk_tokens != config.chunk_size:
        log.warning(
            "LMCache: chunk_size %d is not possible with this model (%s); using %d",
            config.chunk_size,
            _chunk_rule(geometry),
            geometry.chunk_tokens,
        )


def _chunk_rule(geometry: EngineGeometry) -> str:
    """Say what decides the size of a chunk."""
    blocks = f"vLLM's blocks have {geometry.block_tokens} tokens"
    if geometry.keeps_states:
        return f"{blocks}, each with a state"
    windows = [group.window_tokens for group in geometry.groups if group.window_tokens]
    return f"{blocks}, its attention sees {min(windows)}" if windows else blocks


def _open_engine(
    config: LMCacheConfig, geometry: EngineGeometry, vllm_config: Any, rank: int | None
) -> _native.Engine:
    from lmcache.engine.opening import open_with_tiers, slot_bytes

    place = config.segment_place
    name = place.name
    if place.private:
        # One engine is several processes, so its private segment has a name after all: that of the
        # engine.
        engine_id = str(vllm_config.kv_transfer_config.engine_id)
        name = f"private-{hashlib.sha256(engine_id.encode()).hexdigest()[:16]}"
    return open_with_tiers(
        config,
        _native_log,
        segment=name,
        directory=place.directory,
        keep=place.keep,
        capacity_bytes=capacity_bytes(config),
        chunk_bytes_hint=slot_bytes(geometry.slot_token_bytes, geometry.chunk_tokens),
        role="vllm scheduler" if rank is None else f"vllm worker {rank}",
        instance_id=_instance_id(config, vllm_config),
        ttl_seconds=int(config.ttl or 0),
        eviction=eviction_in_use(config.eviction_policy),
    )


def _instance_id(config: LMCacheConfig, vllm_config: Any) -> str:
    """Name the engine, not the process: its halves have one name."""
    engine_id = str(vllm_config.kv_transfer_config.engine_id)
    return config.lmcache_instance_id or f"{socket.gethostname()}-{engine_id[:8]}"


def _native_log(level: int, text: str) -> None:
    log.log(level, "LMCache: %s", text)
