# SPDX-License-Identifier: Apache-2.0
"""Settings of stores on other machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from lmcache.config.allowed import Allowed
from lmcache.config.option import option
from lmcache.config.value_types import Choice, Deadline, RemoteUrl

Connections = Annotated[int, Field(ge=1, le=64), Allowed("a whole number from 1 to 64")]
LookupTimeout = Annotated[
    int, Field(ge=1, le=60_000), Allowed("a whole number of milliseconds from 1 to 60000")
]
LookupKept = Annotated[
    int, Field(ge=10, le=3_600_000), Allowed("a whole number of milliseconds from 10 to 3600000")
]


class RemoteOptions(BaseModel):
    """Remote: stores on other machines, and what lower tiers have in common"""

    enable_remote_cache: bool = option(
        False, "Keep chunks in a remote store too. Setting `remote_url` switches this on by itself."
    )
    # May hold a password, so it is never logged.
    remote_url: RemoteUrl | None = option(
        None,
        "Address of the remote store, with user and password if it needs them.",
        secret=True,
    )
    remote_user: str | None = option(None, "User there, if the URL names none.")
    remote_password: str | None = option(
        None,
        "Password there, if the URL has none. Better in LMCACHE_REMOTE_PASSWORD than in a file.",
        secret=True,
    )
    remote_connections: Connections = option(
        4,
        "Connections to the remote store that move chunks, per process; one of them only reads. "
        "One more asks what is there.",
    )
    remote_lookup_timeout_ms: LookupTimeout = option(
        200,
        "Milliseconds that asking the remote store for chunks may take. After that they count as "
        "missing, and the store is left alone until it answers.",
    )
    remote_lookup_kept_ms: LookupKept = option(
        5000, "Milliseconds for which an answer of the remote store is believed."
    )
    remote_serde: Choice[Literal["msgpack", "naive"]] = option(
        "msgpack",
        "Framing of remote values: `msgpack` describes itself, `naive` is a header and raw bytes.",
    )
    # The lossy ones change answers, so nobody gets them without asking.
    compression: Choice[Literal["none", "lz4", "zstd", "fp8", "int8", "cachegen"]] = option(
        "none",
        "Compression on disk and in remote stores: `lz4` and `zstd` lose nothing; `fp8`, `int8` "
        "and `cachegen` do.",
    )
    # Seconds. After that a slow store counts as a miss and the tokens are computed.
    blocking_timeout_secs: Deadline = option(10.0, "Deadline of one remote read, in seconds.")
    enable_p2p: bool = option(False, "Read from the DRAM of other nodes.")
