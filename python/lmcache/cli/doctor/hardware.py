# SPDX-License-Identifier: Apache-2.0
"""Hardware: what the CPU can do, and whether there is a GPU with a driver."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from lmcache.cli.doctor.check import Check
from lmcache.cli.node import gigabytes

# Flags of /proc/cpuinfo that matter -> what for. Either name of a pair will do (x86-64, arm64).
_WANTED = {
    ("sha_ni", "sha2"): "hashing prompts at full speed",
    ("avx2", "asimd"): "copies at full speed",
}
_WELCOME = ("avx512f", "sve")
_OLDEST_DRIVER = 12000  # of cpp/device/cuda_loader.cpp


def check_cpu(root: str = "/") -> Check:
    """Look for the instructions that hashing and copying use."""
    flags: set[str] = set()
    for line in (Path(root) / "proc/cpuinfo").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(rest.split())
            break
    known = [name for pair in _WANTED for name in pair] + list(_WELCOME)
    found = ", ".join(name for name in known if name in flags) or "none of the useful extensions"
    missing = [
        f"{pair[0]} ({what})" for pair, what in _WANTED.items() if not flags.intersection(pair)
    ]
    if not missing:
        return Check("CPU", "ok", found)
    advice = (
        f"lacks {', '.join(missing)}; a virtual machine may hide it: pass the host's CPU through"
    )
    return Check("CPU", "warn", found, advice)


@dataclass(frozen=True)
class Driver:
    """What the CUDA driver says of itself."""

    version: int = 0  # 12040 is CUDA 12.4
    devices: int = 0
    error: str = ""


def cuda_driver(library: str = "libcuda.so.1") -> Driver | None:
    """Ask the CUDA driver; None when it is not installed."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    code = driver.cuInit(0)
    if code != 0:
        return Driver(error=f"cuInit failed with {code}")
    version, devices = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(devices))
    return Driver(version.value, devices.value)


def check_cuda(driver: Driver | None, root: str = "/") -> Check:
    """Tell whether there is a GPU to use; none is fine, one without a working driver is not."""
    if driver is None:
        if (Path(root) / "dev/nvidiactl").exists():
            advice = "a container needs `--gpus all` and the driver's libraries"
            return Check("CUDA", "warn", "a GPU, but no libcuda.so.1", advice)
        return Check("CUDA", "ok", "no driver; the cache works without a GPU")
    if driver.error:
        advice = "`nvidia-smi` tells whether driver and kernel module fit"
        return Check("CUDA", "warn", f"driver found, but {driver.error}", advice)
    version = f"{driver.version // 1000}.{driver.version % 1000 // 10}"
    if driver.version < _OLDEST_DRIVER:
        advice = "a driver for CUDA 12.0 or later (525 and on), for copies by the GPU"
        return Check("CUDA", "warn", f"the driver is for CUDA {version}", advice)
    if driver.devices == 0:
        advice = "`CUDA_VISIBLE_DEVICES` may hide it; a container needs `--gpus all`"
        return Check("CUDA", "warn", f"driver for CUDA {version}, no device visible", advice)
    return Check("CUDA", "ok", f"driver for CUDA {version}, {driver.devices} device(s)")


def check_pool(pool_bytes: int, driver: Driver | None) -> Check:
    """Tell whether there is a GPU for the pool that is asked for; whether it fits is seen when vLLM
    has taken its own share.
    """
    name = "pool in GPU memory"
    if not pool_bytes:
        return Check(name, "ok", "none asked for")
    found = f"{gigabytes(pool_bytes)} per rank"
    if driver is None or driver.error or not driver.devices:
        return Check(name, "warn", f"{found}, but no GPU", "unset max_local_device_size")
    return Check(name, "ok", f"{found}, on top of what vLLM's gpu_memory_utilization takes")
