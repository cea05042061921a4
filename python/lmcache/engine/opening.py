# SPDX-License-Identifier: Apache-2.0
"""Opening the native engine that a configuration describes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcache import _native
from lmcache.config import (
    LMCacheConfig,
    available_memory_bytes,
    capacity_bytes,
    eviction_in_use,
    unavailable_line,
)
from lmcache.config.availability import has_remote
from lmcache.config.capacity import GIGABYTE, device_pool_bytes
from lmcache.errors import OutOfMemoryError
from lmcache.remote.opening import is_python_remote
from lmcache.remote.tier import engine_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmcache.remote.base import Remote

_log = logging.getLogger("lmcache")

_TOKEN_ID_BYTES = 4
_HEADER_BYTES = 256


def open_native(
    config: LMCacheConfig,
    *,
    role: str,
    chunk_bytes_hint: int = 0,
    log: Callable[[int, str], None] | None = None,
    remote: Remote | None = None,
) -> _native.Engine:
    """Map the segment of `config`, or make it, and join it as `role`; under a second at any size.

    `log` defaults to the logger "lmcache". `remote` is used instead of what the configuration says
    of a remote store. Raises `lmcache.errors.LMCacheError` with what to do
    when the memory is not there or the segment is not ours.
    """
    write = log or _log.log
    if line := unavailable_line(config):
        write(logging.WARNING, line)
    place = config.segment_place
    size_bytes = capacity_bytes(config)
    if place.private:
        _check_memory(config, size_bytes)
    return open_with_tiers(
        config,
        write,
        remote=remote,
        segment=place.name,
        directory=place.directory,
        keep=place.keep,
        capacity_bytes=size_bytes,
        chunk_bytes_hint=chunk_bytes_hint,
        role=role,
        instance_id=config.instance_id,
        ttl_seconds=config.ttl or 0,
        eviction=eviction_in_use(config.eviction_policy),
    )


def open_with_tiers(
    config: LMCacheConfig,
    log: Callable[[int, str], None],
    *,
    remote: Remote | None = None,
    **options: Any,
) -> _native.Engine:
    """Open an engine with `options` and the tiers above and below DRAM that `config` names."""
    service = engine_service(config, log, remote)
    calls = service.calls if service else None
    tiers = {"device_pool_bytes": device_pool_bytes(config), **lower_tier_options(config, calls)}
    try:
        engine = _native.Engine.open(_native.EngineOptions(**options, **tiers), log)
        if service:
            memory = engine.lend_memory()
            service.start([memory] if memory is not None else [])
    except BaseException:
        if service:
            service.close()
        raise
    return engine


def lower_tier_options(
    config: LMCacheConfig, calls: _native.RemoteCalls | None = None
) -> dict[str, Any]:
    """Return what `_native.EngineOptions` needs to know of the tiers below memory."""
    return {
        "write_behind_bytes": config.write_behind_bytes,
        "always_fetch": config.load_policy == "always",
        **disk_options(config),
        **remote_options(config, calls),
    }


def disk_options(config: LMCacheConfig) -> dict[str, Any]:
    """Return what `_native.EngineOptions` needs to know of the disk tier; empty without one."""
    if not config.enable_disk_cache:
        return {}
    return {
        "disk_folders": [str(Path(folder).absolute()) for folder in config.disk_cache_path],
        "disk_bytes": int((config.max_local_disk_size or 0) * GIGABYTE),
        "disk_io": config.disk_io,
        "disk_durability": config.durability,
        "disk_bytes_per_second": int((config.max_disk_bandwidth or 0) * 1e6),
    }


def remote_options(
    config: LMCacheConfig, calls: _native.RemoteCalls | None = None
) -> dict[str, Any]:
    """Return what `_native.EngineOptions` needs to know of the remote tier; empty without one.

    `calls`: of a client in Python, if one serves it.
    """
    url = config.remote_url
    there: dict[str, Any]
    if calls is not None:
        there = {"remote_calls": calls}
    elif not config.enable_remote_cache or url is None or not has_remote(url):
        return {}
    elif is_python_remote(url):
        return {}  # its library is missing
    else:
        there = {
            "remote_url": url,
            "remote_user": config.remote_user or "",
            "remote_password": config.remote_password or "",
            "remote_serde": config.remote_serde,
        }
    return {
        **there,
        "remote_connections": config.remote_connections,
        "remote_lookup_timeout_ms": config.remote_lookup_timeout_ms,
        "remote_timeout_ms": max(1, int(config.blocking_timeout_secs * 1000)),
        "remote_lookup_kept_ms": config.remote_lookup_kept_ms,
    }


def slot_bytes(token_bytes: int, chunk_tokens: int) -> int:
    """Return the room that a full chunk takes, for `chunk_bytes_hint`: header, KV and token ids.

    A hint without the rest makes extents into which one chunk less fits than was meant.
    """
    return _HEADER_BYTES + chunk_tokens * (token_bytes + _TOKEN_ID_BYTES)


def _check_memory(config: LMCacheConfig, size_bytes: int) -> None:
    """Refuse memory that is not there: it would be missing when the cache fills, hours later.

    A named segment is checked against the file system it lies in when it is made.
    """
    available = available_memory_bytes()
    if config.max_local_cpu_size is None or size_bytes <= available:
        return
    source = config.sources["max_local_cpu_size"]
    raise OutOfMemoryError(
        f"max_local_cpu_size = {config.max_local_cpu_size:g} GB ({source}): only "
        f"{available / 1e9:.1f} GB of memory are free on this machine, or left in its cgroup"
    )
