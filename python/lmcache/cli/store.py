# SPDX-License-Identifier: Apache-2.0
"""Which remote store a command is about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated

import typer

from lmcache import _native
from lmcache.config import load_config
from lmcache.config.availability import has_remote
from lmcache.config.value_types import REMOTE_SCHEMES
from lmcache.errors import UnavailableError
from lmcache.remote.opening import is_python_remote
from lmcache.remote.service import RemoteService
from lmcache.remote.tier import store_service

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Its address, e.g. redis://host:6379/0; otherwise the configured one.",
        show_default=False,
    ),
]

_log = logging.getLogger("lmcache")


def store_url(url: str | None) -> str:
    """Return `--url` or, without it, the configured address. Raises `UnavailableError`."""
    address = url or load_config(log_warnings=False).remote_url
    if not address:
        raise UnavailableError("no remote store is configured (remote_url is not set): say --url")
    scheme = address.partition("://")[0].lower()
    if scheme in REMOTE_SCHEMES and not has_remote(f"{scheme}://"):
        raise UnavailableError(f"{scheme}://: this kind of remote store is not in this version")
    return address


def store_login() -> tuple[str, str]:
    """Return the configured user and password, for an address that names none."""
    config = load_config(log_warnings=False)
    return config.remote_user or "", config.remote_password or ""


def open_store(
    url: str | None,
    connections: int = 1,
    overwrites: bool = False,
    *,
    told: Callable[[RemoteService], None] = lambda _: None,
) -> _native.RemoteStore:
    """Connect to the store. Raises `LMCacheError` when there is none, or it does not answer.

    `told` gets what serves the store, if that is a client in Python.
    """
    config = load_config(log_warnings=False)
    address = store_url(url)
    user, password = store_login()
    service = None
    if is_python_remote(address):
        # The store's own connection, and one that only asks.
        service = store_service(config, address, connections + 2, _log.log)
        service.start()
        told(service)
    try:
        return _native.RemoteStore.open(
            address,
            _log.log,
            serde=config.remote_serde,
            connections=connections,
            overwrites=overwrites,
            timeout_ms=max(1, int(config.blocking_timeout_secs * 1000)),
            user=user,
            password=password,
            calls=service.calls if service else None,
        )
    except BaseException:
        if service:
            service.close()
        raise
