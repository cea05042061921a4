# SPDX-License-Identifier: Apache-2.0
"""io_uring: permitted, missing, forbidden by a setting, by a filter, by a limit."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lmcache.cli.doctor.kernel import check_io_uring, io_uring_errno


def test_the_attempt_itself() -> None:
    assert io_uring_errno() in (0, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.ENOMEM)


@pytest.mark.parametrize(
    ("code", "disabled", "status", "told"),
    [
        (0, None, "ok", ""),
        (errno.ENOSYS, None, "warn", "Linux 5.1"),
        (errno.EPERM, "2", "warn", "kernel.io_uring_disabled=0"),
        (errno.EPERM, "0", "warn", "seccomp"),
        (errno.EPERM, None, "warn", "seccomp"),
        (errno.ENOMEM, None, "warn", "ulimit -l"),
    ],
)
def test_who_forbids_it(
    tmp_path: Path, code: int, disabled: str | None, status: str, told: str
) -> None:
    if disabled is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/io_uring_disabled").write_text(disabled + "\n")
    check = check_io_uring(code, str(tmp_path))
    assert check.status == status
    assert told in check.advice
