# SPDX-License-Identifier: Apache-2.0
"""What errors of obstore mean, and that nothing of their text is shown."""

from __future__ import annotations

import pytest

from lmcache.errors import InvalidArgumentError, TimedOutError, UnavailableError
from lmcache.remote.object_failure import failure, is_miss, is_no_room, misconfigured

ANSWER = (
    "Generic S3 error: Error performing GET http://h/b/k?X-Amz-Signature=hush in 2ms - Server "
    "returned non-2xx status code: {status}: <Error><Code>{code}</Code><Message>hush</Message>"
    "<StringToSign>hush</StringToSign></Error>"
)


def answer(status: str, code: str) -> Exception:
    return RuntimeError(ANSWER.format(status=status, code=code))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            answer("403 Forbidden", "SignatureDoesNotMatch"),
            UnavailableError,
            "s3://kv: access denied (status 403, SignatureDoesNotMatch)",
        ),
        (
            answer("503 Slow Down", "SlowDown"),
            UnavailableError,
            "s3://kv: the store refuses (status 503, SlowDown)",
        ),
        (
            answer("404 Not Found", "NoSuchBucket"),
            UnavailableError,
            "s3://kv: there is no such bucket (status 404, NoSuchBucket)",
        ),
        (
            RuntimeError("HTTP error: hush ... kind: Timeout, source: TimedOut"),
            TimedOutError,
            "s3://kv: it does not answer in time",
        ),
        (RuntimeError("hush kind: Connect"), UnavailableError, "s3://kv: no connection"),
        (
            RuntimeError("Error performing token request: hush status code: 403"),
            UnavailableError,
            "s3://kv: no usable credentials (status 403)",
        ),
        (TypeError("hush"), UnavailableError, "s3://kv: TypeError"),
    ],
)
def test_what_is_shown(error, kind, text):
    shown = failure("s3://kv", error)
    assert type(shown) is kind
    assert str(shown) == text


def test_a_miss_is_no_failure_but_a_missing_bucket_is():
    assert is_miss(FileNotFoundError("Object at location x not found"))
    assert is_miss(answer("412 Precondition Failed", "PreconditionFailed"))
    assert is_miss(answer("416 Range Not Satisfiable", "InvalidRange"))
    assert not is_miss(FileNotFoundError("x not found: <Code>NoSuchBucket</Code>"))
    assert not is_miss(answer("403 Forbidden", "AccessDenied"))


def test_no_room():
    assert is_no_room(answer("507 Insufficient Storage", "XMinioStorageFull"))
    assert is_no_room(answer("403 Forbidden", "QuotaExceeded"))
    assert not is_no_room(answer("403 Forbidden", "AccessDenied"))


def test_bad_settings():
    error = misconfigured("az://kv", RuntimeError("Account must be specified"))
    assert isinstance(error, InvalidArgumentError)
    assert "which account" in str(error)
    assert str(misconfigured("az://kv", RuntimeError("hush"))) == "az://kv: bad settings"
