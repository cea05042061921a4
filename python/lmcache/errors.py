# SPDX-License-Identifier: Apache-2.0
"""Every exception LMCache raises, as one tree under `LMCacheError`.

The branch below `LMCacheError` that carries a `code` mirrors `lmcache::ErrorCode` of the native
library (`include/lmcache/base/result.hpp`): a code stands for what the caller should do next, not
for a cause. A class whose mistake is a bad value is a `ValueError` too, so ordinary Python code
catches it as usual.
"""

from __future__ import annotations

from collections.abc import Sequence


class LMCacheError(Exception):
    """Base of every exception here. `code` names the reaction, as in the native library."""

    code = "internal"

    def __init__(self, message: str, *, os_error: int = 0) -> None:
        super().__init__(message)
        # errno, or the CUDA error number where `code` is "cuda"; 0 when neither applies.
        self.os_error = os_error


# What the native library reports, one class per `lmcache::ErrorCode`.


class InvalidArgumentError(LMCacheError, ValueError):
    """The caller's mistake or a bad setting: trying again does not help."""

    code = "invalid_argument"


class OutOfMemoryError(LMCacheError):
    """The pool or the device is full: evict or shed load, then try again."""

    code = "out_of_memory"


class UnavailableError(LMCacheError):
    """A tier, a peer or the segment is not there: go on without it."""

    code = "unavailable"


class TimedOutError(LMCacheError):
    """The deadline passed: treat it as a miss."""

    code = "timeout"


class CancelledError(LMCacheError):
    """The request this work belonged to is gone."""

    code = "cancelled"


class CorruptedError(LMCacheError):
    """Stored bytes do not match their checksum, header or geometry."""

    code = "corrupted"


class IoError(LMCacheError):
    """A disk or a socket failed; `os_error` holds errno."""

    code = "io"


class CudaError(LMCacheError):
    """The CUDA runtime failed; `os_error` holds its error number."""

    code = "cuda"


class InternalError(LMCacheError):
    """A broken invariant of ours. Please report it."""

    code = "internal"


# What the Python layers add.


class ConfigError(InvalidArgumentError):
    """The configuration is wrong. `problems` has one line per mistake, the message shows all."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        if len(self.problems) == 1:
            message = self.problems[0]
        else:
            lines = "".join(f"\n  - {problem}" for problem in self.problems)
            message = f"{len(self.problems)} mistakes in the configuration:{lines}"
        super().__init__(message)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)  # a worker process hands it to its parent by pickle


class GeometryError(InvalidArgumentError):
    """KV whose shape, dtype, strides or size is not what was declared."""


class SegmentError(UnavailableError):
    """The shared segment cannot be made or attached."""


class ClosedError(LMCacheError):
    """The engine was used after `close()`."""

    code = "invalid_argument"


class NativeUnavailableError(UnavailableError, ImportError):
    """`lmcache._native` is missing or does not load: the package was not built for this Python."""


# In the order of the enumerators of `lmcache::ErrorCode`, so that the bindings can index it.
NATIVE_ERRORS: tuple[type[LMCacheError], ...] = (
    InvalidArgumentError,
    OutOfMemoryError,
    UnavailableError,
    TimedOutError,
    CancelledError,
    CorruptedError,
    IoError,
    CudaError,
    InternalError,
)

_BY_CODE = {error.code: error for error in NATIVE_ERRORS}


def native_error(code: int | str, message: str, os_error: int = 0) -> LMCacheError:
    """Return (not raise) the exception for an error of the native library.

    `code` is the number of a `lmcache::ErrorCode` or its name ("out_of_memory"); one that this
    version does not know becomes `InternalError`, so that an error is never lost in translation.
    """
    if isinstance(code, int):
        known = 0 <= code < len(NATIVE_ERRORS)
        error = NATIVE_ERRORS[code] if known else InternalError
    else:
        error = _BY_CODE.get(code, InternalError)
    return error(message, os_error=os_error)


def native_missing(cause: ImportError) -> NativeUnavailableError:
    """Return the exception for a failed `import lmcache._native`, saying what to do about it."""
    return NativeUnavailableError(
        f"the native library of lmcache cannot be loaded ({cause}); it is built by `pip install .` "
        "for one version of Python, and `lmcache doctor` shows what is missing"
    )
