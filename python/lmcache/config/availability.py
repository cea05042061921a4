# SPDX-License-Identifier: Apache-2.0
"""Settings that are understood but ask for what this version cannot do.

Delete a line of the table when its feature arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from lmcache.config.value_types import REMOTE_SCHEMES, hide_password

# Policies of the native library in this version, and the one that stands in for the others.
EVICTION_POLICIES = ("lru", "fifo", "mru")
FALLBACK_POLICY = "lru"

_NOT_YET = "not in this version"

# Addresses that are understood and that nothing here can reach.
_WITHOUT_CLIENT = ("lm",)


def has_remote(url: str) -> bool:
    """Tell whether this version has a client for the store that `url` names."""
    scheme = url.partition("://")[0].lower()
    return scheme in REMOTE_SCHEMES and scheme not in _WITHOUT_CLIENT


# Field -> the values that ask for something missing, and what happens instead.
_MISSING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "local_cpu": (lambda on: not on, "there is no tier below; nothing is kept"),
    "remote_url": (
        lambda url: url is not None and not has_remote(url),
        f"this kind of remote store is {_NOT_YET}; chunks stay on this node",
    ),
    "enable_p2p": (bool, f"reading from other nodes is {_NOT_YET}"),
    "local_device": (
        lambda device: device == "cuda",
        "no pool in GPU memory without max_local_device_size; KV is copied to and from DRAM",
    ),
    "retrieval_mode": (
        lambda mode: mode != "exact",
        f"semantic retrieval is {_NOT_YET}; only equal prefixes are reused",
    ),
    "enable_blending": (bool, f"blending is {_NOT_YET}; only equal prefixes are reused"),
    "compression": (lambda codec: codec != "none", f"compression is {_NOT_YET}; chunks stay raw"),
    "enable_vision_cache": (bool, f"the cache of vision encoders is {_NOT_YET}"),
    "cache_warmup": (bool, f"warming up is {_NOT_YET}; the cache starts as the segment is"),
    "enable_controller": (bool, f"reporting to a controller is {_NOT_YET}"),
    "eviction_policy": (
        lambda policy: policy not in EVICTION_POLICIES,
        f"this policy is {_NOT_YET}; chunks are evicted by {FALLBACK_POLICY}",
    ),
}


def unavailable(config: BaseModel) -> list[tuple[str, str]]:
    """Return (field, why) for everything `config` asks for that this version does not do."""
    return [
        (name, why)
        for name, (asked, why) in _MISSING.items()
        if asked(getattr(config, name)) and not _is_there(name, config)
    ]


def _is_there(name: str, config: BaseModel) -> bool:
    """Tell whether another setting brings what the setting `name` asks for."""
    if name == "local_cpu":
        return _has_tier_below(config)
    return name == "local_device" and getattr(config, "max_local_device_size", None) is not None


def _has_tier_below(config: BaseModel) -> bool:
    if getattr(config, "enable_disk_cache", False):
        return True
    url = getattr(config, "remote_url", None)
    return bool(getattr(config, "enable_remote_cache", False) and url) and has_remote(str(url))


def unavailable_line(config: BaseModel) -> str:
    """Return the one line an engine logs at its start about what it cannot do; empty if nothing."""
    parts = [f"{name}={_plain(getattr(config, name))}: {why}" for name, why in unavailable(config)]
    return "continuing without what was asked for: " + "; ".join(parts) if parts else ""


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else hide_password(value)


def eviction_in_use(policy: str) -> str:
    """Return the policy to hand to the native library for a valid value of `eviction_policy`."""
    return policy if policy in EVICTION_POLICIES else FALLBACK_POLICY
