# SPDX-License-Identifier: Apache-2.0
"""The cost model: its arithmetic by hand, the copier's constants, the document's table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmcache.bench import gpu_cost
from lmcache.bench.gpu_cost import MODELS, PCIE4, PCIE5, Layout, chunk_cost, planes_of

ROOT = Path(__file__).resolve().parents[3]
LLAMA_8B, _, LLAMA_70B, DEEPSEEK_V3, _ = MODELS


def constant(header: str, name: str) -> int:
    """Read a constant of C++: a product of numbers."""
    text = (ROOT / header).read_text(encoding="utf-8")
    match = re.search(rf"\b{name} = ([0-9 *]+);", text)
    assert match, f"{header} has no {name}"
    value = 1
    for factor in match[1].split("*"):
        value *= int(factor)
    return value


def test_the_document_holds_the_table() -> None:
    assert gpu_cost.table() in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


def test_bytes_of_a_token() -> None:
    assert LLAMA_8B.token_bytes == 131_072
    assert LLAMA_70B.token_bytes == 81_920
    assert DEEPSEEK_V3.token_bytes == 70_272


@pytest.mark.parametrize(
    ("layout", "planes", "page_bytes"),
    [
        (Layout.SPLIT, 64, 32 << 10),
        (Layout.FUSED, 32, 64 << 10),
        (Layout.CROSS_LAYER, 1, 2 << 20),
    ],
)
def test_planes_and_pages_of_llama_8b(layout: Layout, planes: int, page_bytes: int) -> None:
    assert planes_of(LLAMA_8B, layout) == (planes, page_bytes)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scattered", [True, False])
def test_runs_and_entries_hold_the_chunk(model: gpu_cost.Model, scattered: bool) -> None:
    for layout in model.layouts:
        cost = chunk_cost(model, layout, PCIE5, scattered=scattered)
        assert cost.runs * cost.run_bytes == cost.chunk_bytes == model.token_bytes * 256
        assert cost.entries * gpu_cost.ENTRY_BYTES >= cost.chunk_bytes
        assert cost.descriptor_bytes < cost.chunk_bytes / 200
        least_bytes = min(gpu_cost.PLANE_PIECE_BYTES, cost.chunk_bytes)
        assert cost.launches <= cost.chunk_bytes / least_bytes


def test_times_by_hand() -> None:
    split = chunk_cost(LLAMA_8B, Layout.SPLIT, PCIE5, scattered=True)
    assert (split.runs, split.launches, split.entries) == (1024, 64, 1024)
    assert split.engine_ms == pytest.approx(0.005 + (32 << 20) / 5.5e6, rel=1e-9)
    assert split.kernel_ms == pytest.approx(0.005 + (32 << 20) / (63.0e6 * 128 / 152), rel=1e-9)
    assert split.published_kernel_ms == pytest.approx((32 << 20) / 24e6, rel=1e-9)
    assert split.by_kernel
    fused = chunk_cost(LLAMA_8B, Layout.FUSED, PCIE4, scattered=True)
    assert fused.engine_ms == pytest.approx(0.005 + (32 << 20) / 26e6, rel=1e-9)


def test_launches_can_be_what_limits() -> None:
    tiny = gpu_cost.Model("tiny", 1000, 1024)
    cost = chunk_cost(tiny, Layout.FUSED, PCIE5, scattered=True)
    assert cost.launches == 1000
    assert cost.kernel_ms == pytest.approx(0.005 + 1000 * 0.005)


@pytest.mark.parametrize("scattered", [True, False])
def test_the_way_is_the_one_the_copier_takes_unless_it_measured(scattered: bool) -> None:
    from_bytes = constant("include/lmcache/device/cuda_issue.hpp", "engine_from_bytes")
    fewest = constant("include/lmcache/device/cuda_issue.hpp", "fewest")
    for model in MODELS:
        for layout in model.layouts:
            cost = chunk_cost(model, layout, PCIE5, scattered=scattered)
            by_engine = cost.run_bytes >= from_bytes or cost.runs < fewest
            assert by_engine != cost.by_kernel


def test_constants_are_those_of_the_copier() -> None:
    pieces = "include/lmcache/device/cuda_pieces.hpp"
    issue = "include/lmcache/device/cuda_issue.hpp"
    assert constant("cuda/copy_kernel.hpp", "kCopyEntryBytes") == gpu_cost.ENTRY_BYTES
    assert constant("cuda/copy_entries.hpp", "kUnroll") * 16 == gpu_cost.THREAD_BYTES_IN_FLIGHT
    assert constant(pieces, "piece_bytes") == gpu_cost.PIECE_BYTES
    assert constant(pieces, "plane_bytes") == gpu_cost.PLANE_PIECE_BYTES
    assert constant(issue, "blocks") == gpu_cost.KERNEL_BLOCKS
    assert constant(issue, "threads") == gpu_cost.KERNEL_THREADS


@pytest.mark.parametrize(
    ("count", "text"), [(24, "24 B"), (18 << 10, "18 KiB"), (3 << 19, "1.5 MiB")]
)
def test_sizes_are_written_in_the_largest_unit(count: int, text: str) -> None:
    assert gpu_cost.size(count) == text
