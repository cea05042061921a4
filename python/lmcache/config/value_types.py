# SPDX-License-Identifier: Apache-2.0
"""The types of settings: each is a plain Python type with its limits and the words that describe
them.

Values arrive typed (a dictionary, YAML) or as text that `text.py` has already turned into the typed
form, so these types are validated strictly: 256 is a number of tokens, "256" and true are not.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from lmcache.config.allowed import Allowed

_Word = TypeVar("_Word")

# A chunk longer than this would not leave a segment any choice what to evict.
MAX_CHUNK_TOKENS = 1 << 20

REMOTE_SCHEMES = (
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "valkey",
    "valkeys",
    "unix",
    "mooncakestore",
    "s3",
    "az",
    "gs",
    "file",
    "lm",
)


def _lower_case(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


# Case does not matter in words to choose from: `Choice[Literal["lru", "fifo"]]`.
Choice = Annotated[_Word, BeforeValidator(_lower_case)]

ChunkTokens = Annotated[
    int,
    Field(ge=1, le=MAX_CHUNK_TOKENS),
    Allowed(f"a whole number of tokens from 1 to {MAX_CHUNK_TOKENS}"),
]
Tokens = Annotated[int, Field(ge=0), Allowed("a whole number of tokens, 0 or more")]
Seconds = Annotated[int, Field(gt=0), Allowed("a whole number of seconds above 0")]
Deadline = Annotated[
    float, Field(gt=0, allow_inf_nan=False), Allowed("a number of seconds above 0")
]
Share = Annotated[float, Field(gt=0, le=1), Allowed("a number above 0 and at most 1")]
Gigabytes = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    Allowed("a number of gigabytes (10^9 bytes) above 0"),
]
Megabytes = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    Allowed("a number of megabytes (10^6 bytes) above 0"),
]
Bytes = Annotated[int, Field(ge=0), Allowed("a whole number of bytes, 0 or more")]


def _as_tuple(value: Any) -> Any:
    """Accept a list or one bare item where a sequence is meant, as existing YAML files have it."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, (int, float)) else value


Shares = Annotated[
    tuple[Share, ...],
    BeforeValidator(_as_tuple),
    Allowed("a list of numbers above 0 and at most 1"),
]
Layers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_tuple),
    Allowed("a list of layer numbers, 0 or more"),
]
Ports = Annotated[
    tuple[Annotated[int, Field(ge=1, le=65535)], ...],
    BeforeValidator(_as_tuple),
    Allowed("a list of port numbers from 1 to 65535"),
]


def _folders(value: Any) -> Any:
    """Split "a,b" and drop `file://`, which existing configurations write before a path."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return value
    paths = tuple(part.strip().removeprefix("file://") for part in parts)
    if not paths or not all(paths) or any("://" in path for path in paths):
        raise ValueError("not a folder")
    return paths


Folders = Annotated[
    tuple[str, ...],
    BeforeValidator(_folders),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
    Allowed("a folder, or several as a list or separated by commas"),
]


def _path(value: str) -> str:
    if not value.strip():
        raise ValueError("empty")
    return value


FilePath = Annotated[str, AfterValidator(_path), Allowed("a path")]
Name = Annotated[str, AfterValidator(_path), Allowed("a name that is not empty")]
Address = Annotated[str, AfterValidator(_path), Allowed("a host:port or URL")]


def _remote_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if scheme.lower() not in REMOTE_SCHEMES or not separator or not rest:
        raise ValueError("not a URL of a store we know")
    return f"{scheme.lower()}://{rest}"


RemoteUrl = Annotated[
    str,
    AfterValidator(_remote_url),
    Allowed("a URL beginning with " + ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)),
]


def hide_password(value: Any) -> str:
    """Return `value` as it may be printed: the password of a URL is replaced by three stars.

    The last @ ends it, as it does for the client: one in a password need not be encoded.
    """
    return re.sub(r"(://[^/@\s:]*):.*@", r"\1:***@", str(value), flags=re.DOTALL)


def printable(name: str, value: Any) -> str:
    """Return the value of setting `name` as it may be printed."""
    return "***" if name.endswith("_password") and value else hide_password(value)
