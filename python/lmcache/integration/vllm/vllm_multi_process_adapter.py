# SPDX-License-Identifier: Apache-2.0
"""Names that vLLM's `LMCacheMPConnector` module imports before it takes ours
(`lmcache_mp_connector`).

Only `LMCACHE_USE_UPSTREAM_MP` would make vLLM use them; it then says here why that cannot work.
"""

from __future__ import annotations

from typing import Any, NoReturn

from lmcache.errors import UnavailableError


class _NoServer:
    def __init__(self, *_args: Any, **_settings: Any) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise UnavailableError(
        "this LMCache has no cache server: unset LMCACHE_USE_UPSTREAM_MP, and vLLM uses the segment"
    )


class LMCacheMPSchedulerAdapter(_NoServer):
    """Client of a cache server, for the scheduler."""


class LMCacheMPWorkerAdapter(_NoServer):
    """Client of a cache server, for a worker."""


class LoadStoreOp(_NoServer):
    """A copy that a cache server is asked for."""


class ParallelStrategy(_NoServer):
    """Ranks as a cache server is told of them."""
