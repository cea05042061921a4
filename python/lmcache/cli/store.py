# SPDX-License-Identifier: Apache-2.0
"""Which remote store a command is about."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Annotated

import typer

from lmcache import _native
from lmcache.config import load_config
from lmcache.config.availability import has_remote
from lmcache.config.value_types import REMOTE_SCHEMES
from lmcache.errors import InvalidArgumentError, TimedOutError, UnavailableError
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
    scheme = _scheme_of(address)
    if scheme in REMOTE_SCHEMES and not has_remote(f"{scheme}://"):
        raise UnavailableError(f"{scheme}://: this kind of remote store is not in this version")
    if "://" in address and scheme not in REMOTE_SCHEMES:
        known = ", ".join(f"{name}://" for name in REMOTE_SCHEMES if has_remote(f"{name}://"))
        # A password that was not percent-encoded may be in what looks like a scheme.
        named = f" '{scheme}'" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,30}", scheme) else ""
        raise InvalidArgumentError(f"remote URL: unknown scheme{named}; allowed are {known}")
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
    transfer_s: float = 0,
    ttl_s: int = 0,
    told: Callable[[RemoteService], None] = lambda _: None,
) -> _native.RemoteStore:
    """Connect to the store. Raises `LMCacheError` when there is none, or it does not answer.

    `transfer_s`: what moving chunks may take beyond the configured time. `ttl_s`: after which
    chunks go that are written, 0 = never. `told` gets what serves the store, if that is a client
    in Python.
    """
    config = load_config(log_warnings=False)
    timeout_s = config.blocking_timeout_secs
    moving = config.model_copy(update={"blocking_timeout_secs": timeout_s + transfer_s})
    address = store_url(url)
    user, password = store_login()
    service = None
    if is_python_remote(address):
        # The store's own connection, and one that only asks.
        service = store_service(moving, address, connections + 2, _log.log)
        service.start()
        told(service)
    try:
        return _native.RemoteStore.open(
            address,
            _log.log,
            serde=config.remote_serde,
            connections=connections,
            overwrites=overwrites,
            timeout_ms=max(1, int(timeout_s * 1000)),
            transfer_timeout_ms=max(1, int((timeout_s + transfer_s) * 1000)),
            ttl_seconds=ttl_s,
            user=user,
            password=password,
            calls=service.calls if service else None,
        )
    except BaseException as error:
        if service:
            service.close()
        if isinstance(error, TimedOutError) and _by_tls(address):
            raise TimedOutError(
                f"{error}; {_scheme_of(address)}:// means TLS: does the server speak it at that "
                "port?"
            ) from None
        raise


def _scheme_of(address: str) -> str:
    return address.partition("://")[0].lower()


def _by_tls(address: str) -> bool:
    return _scheme_of(address) in ("rediss", "valkeys", "rediss-cluster")
