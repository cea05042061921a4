# SPDX-License-Identifier: Apache-2.0
"""Which client an address needs, and making it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lmcache.errors import InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from lmcache.remote.base import Remote

# Scheme -> module and class of its client, and the extra of this package that has its library.
_OBJECT_STORE = ("lmcache.remote.object_store", "ObjectStoreRemote", "object-store")
_CLIENTS = {
    "file": ("lmcache.remote.folder", "FolderRemote", ""),
    "s3": _OBJECT_STORE,
    "az": _OBJECT_STORE,
    "gs": _OBJECT_STORE,
    "mooncakestore": ("lmcache.remote.mooncake", "MooncakeRemote", "mooncake"),
}


def is_python_remote(url: str) -> bool:
    """Tell whether the store that `url` names is reached through a client in Python."""
    return url.partition("://")[0].lower() in _CLIENTS


def open_remote(
    url: str, *, user: str | None, password: str | None, timeout_s: float, connections: int
) -> Remote:
    """Return a client of the store that `url` names, which connects with its first call.

    Raises `InvalidArgumentError` for an address that is none, and `UnavailableError` naming the
    extra to install when the client's library is missing.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _CLIENTS:
        raise InvalidArgumentError(f"{scheme}:// is not a store with a client in Python")
    module, name, extra = _CLIENTS[scheme]
    try:
        client = getattr(importlib.import_module(module), name)
        remote: Remote = client(
            f"{scheme}://{rest}",
            user=user,
            password=password,
            timeout_s=timeout_s,
            connections=connections,
        )
    except ImportError as error:
        raise UnavailableError(
            f"{scheme}:// needs a library that is not there ({error.__cause__ or error}): "
            f'pip install "lmcache[{extra}]"'
        ) from error
    return remote
