# SPDX-License-Identifier: Apache-2.0
"""CPU features and the CUDA driver, on made-up machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcache.cli.doctor.hardware import Driver, check_cpu, check_cuda, check_pool, cuda_driver


@pytest.mark.parametrize(
    ("line", "status", "found", "advice"),
    [
        ("flags\t\t: fpu avx2 sha_ni avx512f", "ok", "sha_ni, avx2, avx512f", ""),
        ("flags\t\t: fpu avx2", "warn", "avx2", "sha_ni (hashing"),
        ("flags\t\t: fpu sha_ni", "warn", "sha_ni", "avx2 (copies"),
        ("Features\t: fp asimd sha2 sve", "ok", "sha2, asimd, sve", ""),
        ("nothing: known", "warn", "none of the useful", "sha_ni"),
    ],
)
def test_cpu(tmp_path: Path, line: str, status: str, found: str, advice: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    check = check_cpu(str(tmp_path))
    assert check.status == status
    assert check.found.startswith(found)
    assert advice in check.advice


@pytest.mark.parametrize(
    ("driver", "device_file", "status", "found"),
    [
        (None, False, "ok", "works without a GPU"),
        (None, True, "warn", "no libcuda.so.1"),
        (Driver(12040, 2), True, "ok", "CUDA 12.4, 2 device(s)"),
        (Driver(11080, 1), True, "warn", "the driver is for CUDA 11.8"),
        (Driver(12040, 0), True, "warn", "no device visible"),
        (Driver(error="cuInit failed with 100"), True, "warn", "cuInit failed with 100"),
    ],
)
def test_cuda(
    tmp_path: Path, driver: Driver | None, device_file: bool, status: str, found: str
) -> None:
    (tmp_path / "dev").mkdir()
    if device_file:
        (tmp_path / "dev/nvidiactl").touch()
    check = check_cuda(driver, str(tmp_path))
    assert check.status == status
    assert found in check.found


def test_a_driver_that_is_not_installed() -> None:
    assert cuda_driver("libcuda-that-nobody-has.so.1") is None


@pytest.mark.parametrize(
    ("pool_bytes", "driver", "status", "found"),
    [
        (0, None, "ok", "none asked for"),
        (8 * 10**9, None, "warn", "8.0 GB per rank, but no GPU"),
        (8 * 10**9, Driver(12040, 0), "warn", "but no GPU"),
        (8 * 10**9, Driver(error="cuInit failed with 100"), "warn", "but no GPU"),
        (8 * 10**9, Driver(12040, 1), "ok", "8.0 GB per rank, on top of"),
    ],
)
def test_pool(pool_bytes: int, driver: Driver | None, status: str, found: str) -> None:
    check = check_pool(pool_bytes, driver)
    assert check.status == status
    assert found in check.found
