# SPDX-License-Identifier: Apache-2.0
"""What the URL of an object store says: bucket, prefix and the settings of the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from lmcache.errors import InvalidArgumentError

# Query key -> name in obstore's configuration of the store.
_TEXTS = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "sse": "server_side_encryption",
        "sse_kms_key_id": "sse_kms_key_id",
    },
    "az": {"endpoint": "endpoint", "account": "account_name"},
    "gs": {"endpoint": "base_url", "service_account": "service_account"},
}
_FLAGS = {
    "s3": {"skip_signature": "skip_signature", "unsigned_payload": "unsigned_payload"},
    "az": {"skip_signature": "skip_signature", "use_emulator": "use_emulator"},
    "gs": {"skip_signature": "skip_signature"},
}
# The same, the other way round: what we call by its good side.
_NEGATED = {
    "s3": {"path_style": "virtual_hosted_style_request", "bulk_delete": "disable_bulk_delete"},
    "az": {},
    "gs": {},
}
_CLIENT = ("allow_http", "ca", "verify")
_ACCESS = {"s3": ("access_key_id", "secret_access_key"), "az": ("account_name", "account_key")}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# What every store takes as it is, without escapes.
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")
_SEGMENT = re.compile(r"[A-Za-z0-9._=-]+")

Setting = str | bool


@dataclass(frozen=True)
class ObjectUrl:
    """A URL taken apart. `access` holds secrets, so neither repr nor str show it."""

    scheme: str
    bucket: str
    prefix: str
    config: Mapping[str, Setting] = field(default_factory=dict)
    client: Mapping[str, Setting] = field(default_factory=dict)
    access: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_object_url(url: str, user: str | None, password: str | None) -> ObjectUrl:
    """Take apart `scheme://[user:password@]bucket[/prefix][?key=value...]`.

    `user` and `password` stand where the URL names none.

    Raises:
        InvalidArgumentError: for what is not allowed, without showing the URL's secrets.
    """
    parts = urlsplit(url)
    scheme = parts.scheme
    if scheme not in _TEXTS:
        raise InvalidArgumentError(f"an object store is s3://, az:// or gs://, not {scheme}://")
    login, _, bucket = parts.netloc.rpartition("@")
    if login:
        name, _, secret = login.partition(":")
        user, password = unquote(name) or user, unquote(secret) or password
    if not _BUCKET.fullmatch(bucket):
        raise InvalidArgumentError(f"{scheme}:// needs the name of a bucket: {scheme}://bucket")
    prefix = unquote(parts.path).strip("/")
    segments = prefix.split("/") if prefix else []
    if any(not _SEGMENT.fullmatch(part) or part in (".", "..") for part in segments):
        raise InvalidArgumentError(
            f"{scheme}://{bucket}: a prefix holds letters, digits, '.', '_', '=' and '-' only"
        )
    if parts.fragment:
        raise InvalidArgumentError(f"{scheme}://{bucket}: a URL of a store has no '#'")
    config, client = _settings(scheme, parts.query)
    return ObjectUrl(scheme, bucket, prefix, config, client, _access(scheme, user, password))


def _settings(scheme: str, query: str) -> tuple[dict[str, Setting], dict[str, Setting]]:
    texts, flags, negated = _TEXTS[scheme], _FLAGS[scheme], _NEGATED[scheme]
    allowed = sorted([*texts, *flags, *negated, *_CLIENT])
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise InvalidArgumentError(
            f"{scheme}:// does not know {', '.join(unknown)}; it knows {', '.join(allowed)}"
        )
    if len(given) < len(pairs):
        raise InvalidArgumentError(f"{scheme}://: a key is given twice")
    config: dict[str, Setting] = {}
    client: dict[str, Setting] = {}
    for key, value in given.items():
        if not value:
            raise InvalidArgumentError(f"{scheme}://: {key} is empty")
        if key in texts:
            config[texts[key]] = value
        elif key in flags:
            config[flags[key]] = _flag(key, value)
        elif key in negated:
            config[negated[key]] = not _flag(key, value)
    if "allow_http" in given:
        client["allow_http"] = _flag("allow_http", given["allow_http"])
    if "verify" in given:
        client["allow_invalid_certificates"] = not _flag("verify", given["verify"])
    if "ca" in given:
        try:
            client["root_certificate"] = Path(given["ca"]).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"ca={given['ca']}: {error}") from None
    _check_endpoint(scheme, given.get("endpoint", ""), client.get("allow_http") is True)
    return config, client


def _check_endpoint(scheme: str, endpoint: str, allow_http: bool) -> None:
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgumentError(f"{scheme}://: endpoint is http://host:port or https://host")
    if parts.username or parts.password or parts.query:
        raise InvalidArgumentError(f"{scheme}://: an endpoint has no user, password or '?'")
    if parts.scheme == "http" and not allow_http:
        raise InvalidArgumentError(
            f"{scheme}://: the endpoint is not encrypted; allow_http=true takes it as it is"
        )


def _flag(key: str, value: str) -> bool:
    if value.lower() not in _WORDS:
        raise InvalidArgumentError(f"{key} is true or false, not {value!r}")
    return _WORDS[value.lower()]


def _access(scheme: str, user: str | None, password: str | None) -> dict[str, str]:
    if not user and not password:
        return {}
    if scheme not in _ACCESS:
        raise InvalidArgumentError(
            f"{scheme}:// takes no user and password; give it service_account=FILE"
        )
    if scheme == "s3" and not (user and password):
        raise InvalidArgumentError("s3:// needs both: user (access key id) and password (secret)")
    names = _ACCESS[scheme]
    return {name: value for name, value in zip(names, (user, password), strict=True) if value}
