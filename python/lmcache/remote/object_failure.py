# SPDX-License-Identifier: Apache-2.0
"""What an error of obstore means.

Its messages quote the request and the answer: URLs with signatures, access keys, what was signed.
None of that is passed on: what is shown is the status, the store's code for the error, and words
of ours.
"""

from __future__ import annotations

import re

from lmcache.errors import InvalidArgumentError, LMCacheError, TimedOutError, UnavailableError

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>|\"reason\": ?\"([A-Za-z]{1,64})\"")
# A missing key is a miss; a missing bucket is a store that is not there.
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
_NO_ROOM = ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage")
# Asking for credentials is a request of its own, so this goes before the status.
_NO_CREDENTIALS = ("token request", "169.254.169.254", "redential error", "fetching credentials")
# Of the constructors, which make no request.
_MISCONFIGURED = (
    ("Account must be specified", "which account? Name it as the user, or ?account=NAME"),
    ("Invalid Access Key", "the password is no account key, which is base64"),
    ("service account file", "the service account's file cannot be read or is none"),
    ("pem file", "the service account's file holds no private key"),
    ("root_certificate", "ca=FILE holds no certificate"),
    ("encryption type", "sse is AES256, aws:kms, aws:kms:dsse or sse-c"),
)
_CAUSES = (
    ("URL scheme is not allowed", "http:// needs allow_http=true"),
    ("kind: Timeout", "it does not answer in time"),
    ("TimedOut", "it does not answer in time"),
    ("InvalidCertificate", "its certificate is not trusted"),
    ("dns error", "its name is unknown"),
    ("ConnectionRefused", "connection refused"),
    ("ConnectionReset", "connection lost"),
    ("IncompleteMessage", "connection lost"),
    ("kind: Connect", "no connection"),
    ("Unable to decode", "the answer is not understood"),
)


def status_of(error: BaseException) -> int:
    """Return the status of the answer that `error` stands for, 0 if there was none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def is_miss(error: BaseException) -> bool:
    """Tell whether there is no such object, or none of that version, or not so many bytes."""
    text = str(error)
    if any(word in text for word in _NO_BUCKET):
        return False
    return isinstance(error, FileNotFoundError) or status_of(error) in (404, 412, 416)


def is_no_room(error: BaseException) -> bool:
    """Tell whether the store has no room for what was sent."""
    return status_of(error) == 507 or any(code in str(error) for code in _NO_ROOM)


def failure(store: str, error: BaseException) -> LMCacheError:
    """Return (not raise) what stands for `error`; nothing of its message is kept.

    Raise it outside of the `except` that caught `error`, or that one hangs on as its context.
    """
    text = str(error)
    status, code = status_of(error), _CODE.search(text)
    cause = next((ours for theirs, ours in _CAUSES if theirs in text), "")
    if any(word in text for word in _NO_CREDENTIALS):
        what = "no usable credentials"
    elif any(word in text for word in _NO_BUCKET):
        what = "there is no such bucket"
    elif status in (401, 403):
        what = "access denied"
    elif status:
        what = "the store refuses"
    else:
        what = cause or type(error).__name__
    if status:
        what += f" (status {status}{', ' + (code[1] or code[2]) if code else ''})"
    kind = TimedOutError if cause.endswith("in time") and not status else UnavailableError
    return kind(f"{store}: {what}")


def misconfigured(store: str, error: BaseException) -> InvalidArgumentError:
    """Return (not raise) what stands for an error of a constructor of obstore, as `failure`."""
    text = str(error)
    what = next((ours for theirs, ours in _MISCONFIGURED if theirs in text), "bad settings")
    return InvalidArgumentError(f"{store}: {what}")
