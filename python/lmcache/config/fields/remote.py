# SPDX-License-Identifier: Apache-2.0
"""Settings of stores on other machines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from lmcache.config.option import option
from lmcache.config.value_types import Choice, Deadline, RemoteUrl


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
