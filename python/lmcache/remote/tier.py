# SPDX-License-Identifier: Apache-2.0
"""What serves the remote tier of an engine, or a store without one, as the configuration says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lmcache.config.value_types import hide_password
from lmcache.errors import InvalidArgumentError
from lmcache.remote.opening import is_python_remote, open_remote
from lmcache.remote.service import Log, RemoteService, failure_text

if TYPE_CHECKING:
    from lmcache.config import LMCacheConfig
    from lmcache.remote.base import Remote


def engine_service(
    config: LMCacheConfig, log: Log, remote: Remote | None = None
) -> RemoteService | None:
    """Return what serves `remote` or, without it, the configured store; it is not started yet.

    None when there is none or it needs no client in Python. Also when the client cannot be made,
    for want of its library for instance, of which a line is logged; but an address that is none
    raises `InvalidArgumentError`.
    """
    threads = config.remote_connections + 1
    if remote is not None:
        return RemoteService(type(remote).__name__, remote, threads=threads, log=log)
    url = config.remote_url
    if not config.enable_remote_cache or url is None or not is_python_remote(url):
        return None
    try:
        return store_service(config, url, threads, log)
    except InvalidArgumentError:
        raise
    except Exception as error:
        why = failure_text(error, config.remote_password or "")
        log(logging.WARNING, f"going on without the remote cache {hide_password(url)}: {why}")
        return None


def store_service(config: LMCacheConfig, url: str, threads: int, log: Log) -> RemoteService:
    """Return what serves the store that `url` names, with up to `threads` calls at once.

    Asks nobody. Raises what `open_remote` does.
    """
    remote = open_remote(
        url,
        user=config.remote_user,
        password=config.remote_password,
        timeout_s=config.blocking_timeout_secs,
        connections=config.remote_connections,
    )
    secret = config.remote_password or ""
    return RemoteService(hide_password(url), remote, threads=threads, log=log, secret=secret)
