# SPDX-License-Identifier: Apache-2.0
"""What loading a chunk into a GPU should cost: bytes, entries, launches, and the predicted time.

Arithmetic on published figures, so that the first run on a GPU can be held against it; docs/gpu.md
has the formulae, where the figures come from, and the table that `python -m lmcache.bench.gpu_cost`
prints. Nothing here is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

CHUNK_TOKENS = 256
BLOCK_TOKENS = 16
CHUNK_BLOCKS = CHUNK_TOKENS // BLOCK_TOKENS

# Of our copier: cuda/copy_kernel.hpp, cuda/copy_entries.hpp, device/cuda_pieces.hpp, cuda_issue.hpp
ENTRY_BYTES = 32 << 10
DESCRIPTOR_BYTES = 24
PIECE_BYTES = 8 << 20
PLANE_PIECE_BYTES = 256 << 10
KERNEL_BLOCKS = 16
KERNEL_THREADS = 512
THREAD_BYTES_IN_FLIGHT = 4 * 16

# Of others, see docs/gpu.md
ENGINE_CLIFF_BYTES = 34_000  # entries of the copy engine below it are slow
ENGINE_SLOW_GBPS = 5.5
ENGINE_ENTRY_US = 0.5
PUBLISHED_KERNEL_GBPS = 24.0  # another system's kernel; its link is not told
LAUNCH_US = 5.0
READ_LATENCY_US = 2.0
# A completion of 128 bytes carries 24 of headers and framing.
READ_PAYLOAD = 128 / (128 + 24)


class Layout(Enum):
    """How an engine lays its pages out, as far as the length of a run depends on it.

    The order of heads and tokens inside a page (NHD, HND), K and V interleaved per head or token,
    and the type of the elements only change what is inside a page.
    """

    SPLIT = "K and V split"
    FUSED = "K and V in one page"
    LATENT = "one latent (MLA)"
    CROSS_LAYER = "all layers in one block"


@dataclass(frozen=True)
class Model:
    """What one rank keeps of a token, per layer."""

    name: str
    layers: int
    token_layer_bytes: int
    latent: bool = False

    @property
    def token_bytes(self) -> int:
        """Return the bytes of a token over all layers."""
        return self.layers * self.token_layer_bytes

    @property
    def layouts(self) -> list[Layout]:
        """Return the layouts that an engine may use for it."""
        if self.latent:
            return [Layout.LATENT, Layout.CROSS_LAYER]
        return [Layout.SPLIT, Layout.FUSED, Layout.CROSS_LAYER]


def attention(name: str, layers: int, kv_heads: int, head_dim: int, element_bytes: int) -> Model:
    """Return a model that keeps K and V of `kv_heads` heads on each rank."""
    return Model(name, layers, 2 * kv_heads * head_dim * element_bytes)


MODELS = (
    attention("Llama-3-8B, bf16", 32, 8, 128, 2),
    attention("Llama-3-8B, fp8 KV", 32, 8, 128, 1),
    attention("Llama-3-70B TP 4, bf16", 80, 8 // 4, 128, 2),
    Model("DeepSeek-V3 (MLA), bf16", 61, (512 + 64) * 2, latent=True),
    Model("DeepSeek-V2 (MLA), bf16", 60, (512 + 64) * 2, latent=True),
)


@dataclass(frozen=True)
class Link:
    """A link to the host: what it signals, and what one large pinned copy reaches."""

    name: str
    raw_gbps: float
    copy_gbps: float

    @property
    def kernel_gbps(self) -> float:
        """Return the most that a kernel can read: by headers, and by what is in flight."""
        in_flight = KERNEL_BLOCKS * KERNEL_THREADS * THREAD_BYTES_IN_FLIGHT
        by_latency = in_flight / READ_LATENCY_US / 1e3
        return min(self.raw_gbps * READ_PAYLOAD, by_latency, self.copy_gbps)


# 16 lanes of 32 and 16 GT/s with 128b/130b
PCIE5 = Link("PCIe 5 x16", 63.0, 55.0)
PCIE4 = Link("PCIe 4 x16", 31.5, 26.0)


@dataclass(frozen=True)
class ChunkCost:
    """Loading one chunk whose blocks are scattered over the pool, or follow each other."""

    chunk_bytes: int
    runs: int
    run_bytes: int
    launches: int
    engine_ms: float
    kernel_ms: float

    @property
    def published_kernel_ms(self) -> float:
        """Return the time of a kernel that is no better than another system's."""
        return max(self.kernel_ms, self.chunk_bytes / PUBLISHED_KERNEL_GBPS / 1e6)

    @property
    def by_kernel(self) -> bool:
        """Tell which way is predicted to be quicker."""
        return self.kernel_ms < self.engine_ms

    @property
    def load_ms(self) -> float:
        """Return the time of the quicker way."""
        return min(self.engine_ms, self.kernel_ms)

    @property
    def entries(self) -> int:
        """Return how many entries the kernel gets: runs, cut to ENTRY_BYTES."""
        return self.runs * -(-self.run_bytes // ENTRY_BYTES)

    @property
    def descriptor_bytes(self) -> int:
        """Return what is sent beside the payload when the kernel copies."""
        return self.entries * DESCRIPTOR_BYTES


def planes_of(model: Model, layout: Layout) -> tuple[int, int]:
    """Return how many planes there are and the bytes of one page."""
    if layout is Layout.CROSS_LAYER:
        return 1, model.token_bytes * BLOCK_TOKENS
    page = model.token_layer_bytes * BLOCK_TOKENS
    if layout is Layout.SPLIT:
        return model.layers * 2, page // 2
    return model.layers, page


def launches_of(planes: int, plane_bytes: int) -> int:
    """Return the pieces of a load: at least a plane's worth, at most PIECE_BYTES."""
    if plane_bytes >= PLANE_PIECE_BYTES:
        return planes * -(-plane_bytes // PIECE_BYTES)
    return -(-planes // -(-PLANE_PIECE_BYTES // plane_bytes))


def chunk_cost(model: Model, layout: Layout, link: Link, *, scattered: bool) -> ChunkCost:
    """Predict what it takes to load one chunk of 256 tokens."""
    planes, page_bytes = planes_of(model, layout)
    run_bytes = page_bytes if scattered else page_bytes * CHUNK_BLOCKS
    runs = planes * (CHUNK_BLOCKS if scattered else 1)
    chunk_bytes = model.token_bytes * CHUNK_TOKENS
    launches = launches_of(planes, page_bytes * CHUNK_BLOCKS)

    engine_gbps = ENGINE_SLOW_GBPS if run_bytes < ENGINE_CLIFF_BYTES else link.copy_gbps
    engine_us = max(chunk_bytes / engine_gbps / 1e3, runs * ENGINE_ENTRY_US)
    kernel_us = max(chunk_bytes / link.kernel_gbps / 1e3, launches * LAUNCH_US)
    return ChunkCost(
        chunk_bytes=chunk_bytes,
        runs=runs,
        run_bytes=run_bytes,
        launches=launches,
        engine_ms=(LAUNCH_US + engine_us) / 1e3,
        kernel_ms=(LAUNCH_US + kernel_us) / 1e3,
    )


def size(count: int) -> str:
    """Write bytes in the largest unit that is not below one."""
    for unit, bytes_of_unit in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_of_unit:
            return f"{count / bytes_of_unit:.4g} {unit}"
    return f"{count} B"


def table() -> str:
    """Return the table of docs/gpu.md."""
    columns = [
        "model, on one rank",
        "layout",
        "bytes a token",
        "blocks",
        "runs x bytes",
        "launches",
        "engine ms",
        "kernel ms (at 24 GB/s)",
        "way",
        "GB/s",
        "PCIe 4",
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for model in MODELS:
        for layout in model.layouts:
            for scattered in (True, False):
                cost = chunk_cost(model, layout, PCIE5, scattered=scattered)
                older = chunk_cost(model, layout, PCIE4, scattered=scattered)
                rates = [each.chunk_bytes / each.load_ms / 1e6 for each in (cost, older)]
                lines.append(
                    f"| {model.name} | {layout.value} | {model.token_bytes:,} "
                    f"| {'scattered' if scattered else 'in a row'} "
                    f"| {cost.runs} x {size(cost.run_bytes)} | {cost.launches} "
                    f"| {cost.engine_ms:.2f} "
                    f"| {cost.kernel_ms:.2f} ({cost.published_kernel_ms:.2f}) "
                    f"| {'kernel' if cost.by_kernel else 'engine'} "
                    f"| {rates[0]:.0f} | {rates[1]:.0f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
