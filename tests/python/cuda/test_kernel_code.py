# SPDX-License-Identifier: Apache-2.0
"""The machine code of the kernels: wide accesses, nothing spilled, few registers; and the PTX."""

from __future__ import annotations

import re

import cuda_tools
import pytest

ARCHITECTURES = ("sm_80", "sm_90")
COPY = "lmcache_copy_entries"
KERNELS = {COPY, "lmcache_quantise_groups", "lmcache_dequantise_groups"}
# The kernel moves 4 x 16 bytes a thread: so many loads are issued before the first store.
IN_FLIGHT = 4


def register_limits() -> dict[str, int]:
    """Read the table of docs/gpu.md."""
    text = (cuda_tools.ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    return {name: int(limit) for name, limit in re.findall(r"\| `(lmcache_\w+)` \| (\d+) \|", text)}


@pytest.fixture(scope="module")
def cuobjdump():
    return cuda_tools.tool("cuobjdump", "nvidia-cuda-cuobjdump")


@pytest.fixture(scope="module")
def used(cuobjdump):
    image = cuda_tools.built("kernels.fatbin")
    return cuda_tools.resources(cuda_tools.run(cuobjdump, "-res-usage", image))


@pytest.fixture(scope="module")
def code(cuobjdump):
    cuda_tools.tool("nvdisasm", "nvidia-cuda-nvdisasm")
    image = cuda_tools.built("kernels.fatbin")
    return cuda_tools.instructions(cuda_tools.run(cuobjdump, "-sass", image))


def wide(opcode: str, kind: str) -> bool:
    """Tell a 16-byte access of global memory, with any cache hint."""
    return re.fullmatch(rf"{kind}\.E(\.\w+)*\.128(\.\w+)*", opcode) is not None


def most_loads_before_a_store(opcodes: list[str]) -> int:
    """Return the longest row of 16-byte loads that no store interrupts."""
    best = row = 0
    for opcode in opcodes:
        if opcode.startswith("ST"):
            row = 0
        row += wide(opcode, "LDG")
        best = max(best, row)
    return best


def test_every_kernel_is_there_for_every_architecture(used):
    assert set(used) == {(arch, kernel) for arch in ARCHITECTURES for kernel in KERNELS}


def test_nothing_lies_in_local_memory(used):
    for kernel, numbers in used.items():
        assert numbers["LOCAL"] == 0, kernel
        assert numbers["STACK"] == 0, kernel


def test_nothing_is_spilled(code):
    for kernel, opcodes in code.items():
        assert not [opcode for opcode in opcodes if re.match(r"(LDL|STL)\b", opcode)], kernel


def test_registers_stay_under_the_limits_of_the_document(used):
    limits = register_limits()
    assert set(limits) == KERNELS
    for (arch, kernel), numbers in used.items():
        assert 0 < numbers["REG"] <= limits[kernel], (arch, kernel)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_copy_kernel_moves_16_bytes_at_a_time(code, arch):
    opcodes = code[arch, COPY]
    assert sum(wide(opcode, "LDG") for opcode in opcodes) >= IN_FLIGHT
    assert sum(wide(opcode, "STG") for opcode in opcodes) >= IN_FLIGHT
    assert most_loads_before_a_store(opcodes) >= IN_FLIGHT


def test_no_access_goes_through_generic_addresses(code):
    for kernel, opcodes in code.items():
        assert not [opcode for opcode in opcodes if re.match(r"(LD|ST)\.", opcode)], kernel


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90"])
def test_the_assembler_of_cuda_12_0_takes_the_ptx(arch, tmp_path):
    ptx = cuda_tools.built("kernels.low.ptx")
    ptxas = cuda_tools.from_package("nvidia-cuda-nvcc-cu12", "ptxas")
    if ptxas is None:
        pytest.skip("no ptxas of CUDA 12: nvidia-cuda-nvcc-cu12 is not installed")
    assert "release 12.0" in cuda_tools.run(ptxas, "--version")
    output = cuda_tools.run(ptxas, "-v", f"-arch={arch}", ptx, "-o", tmp_path / "kernels.cubin")
    assert output.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 3


def test_the_assembler_of_cuda_12_0_refuses_the_ptx_as_nvcc_writes_it(tmp_path):
    ptx = cuda_tools.built("kernels.ptx")
    ptxas = cuda_tools.from_package("nvidia-cuda-nvcc-cu12", "ptxas")
    if ptxas is None:
        pytest.skip("no ptxas of CUDA 12: nvidia-cuda-nvcc-cu12 is not installed")
    with pytest.raises(AssertionError, match=r"[Uu]nsupported .version"):
        cuda_tools.run(ptxas, "-arch=sm_80", ptx, "-o", tmp_path / "kernels.cubin")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_the_assembler_of_this_toolkit_takes_the_ptx(arch, tmp_path):
    ptx = cuda_tools.built("kernels.low.ptx")
    ptxas = cuda_tools.tool("ptxas", "nvidia-cuda-nvcc")
    if arch not in cuda_tools.run(ptxas, "--help"):
        pytest.skip(f"this ptxas does not know {arch}")
    output = cuda_tools.run(ptxas, "-v", f"-arch={arch}", ptx, "-o", tmp_path / "kernels.cubin")
    assert output.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 3


def test_a_slower_kernel_would_be_seen():
    narrow = ["LDG.E.64", "STG.E.EF", "LDG.E.128", "STG.E.128", "LDG.E.EF.128"]
    assert most_loads_before_a_store(narrow) == 1
    assert most_loads_before_a_store(["LDG.E.EF.128"] * 4 + ["STG.E.EF.128"] * 4) == IN_FLIGHT
    listing = "arch = sm_80\n Function k:\n  REG:70 STACK:8 LOCAL:8 CONSTANT[0]:364\n"
    assert cuda_tools.resources(listing) == {("sm_80", "k"): {"REG": 70, "STACK": 8, "LOCAL": 8}}
