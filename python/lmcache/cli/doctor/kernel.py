# SPDX-License-Identifier: Apache-2.0
"""The kernel: may this process use io_uring."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from lmcache.cli.doctor.check import Check

# The number is the same on every architecture (all system calls since Linux 5.1 are).
_IO_URING_SETUP = 425
_PARAMS_BYTES = 120  # sizeof(struct io_uring_params)

_WITHOUT = "the disk tier would use threads instead, at a lower rate"


def io_uring_errno() -> int:
    """Set up a ring of one entry and close it again. Return 0, or errno of the system call."""
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(_PARAMS_BYTES)
    ring = libc.syscall(ctypes.c_long(_IO_URING_SETUP), ctypes.c_uint(1), params)
    if ring < 0:
        return ctypes.get_errno()
    os.close(ring)
    return 0


def check_io_uring(code: int | None = None, root: str = "/") -> Check:
    """Tell whether io_uring works here, and if not, who forbids it. `code` replaces the attempt."""
    code = io_uring_errno() if code is None else code
    if code == 0:
        return Check("io_uring", "ok", "permitted")
    if code == errno.ENOSYS:
        advice = f"Linux 5.1 or newer has it; {_WITHOUT}"
        return Check("io_uring", "warn", "this kernel, or a filter, does not have it", advice)
    switch = Path(root) / "proc/sys/kernel/io_uring_disabled"
    setting = switch.read_text().strip() if switch.exists() else "0"
    found = f"forbidden: {os.strerror(code)}"
    if setting != "0":
        advice = f"`sysctl kernel.io_uring_disabled=0` (it is {setting}); {_WITHOUT}"
    elif code == errno.ENOMEM:
        advice = f"`ulimit -l unlimited` on kernels before 5.12; {_WITHOUT}"
    else:
        advice = f"a container needs a seccomp profile that allows io_uring_setup; {_WITHOUT}"
    return Check("io_uring", "warn", found, advice)
