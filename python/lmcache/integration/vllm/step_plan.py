# SPDX-License-Identifier: Apache-2.0
"""What the scheduler half tells every worker half in one step: which slots to copy from and to.

It is pickled to each worker in each step, so it names slots and blocks and never carries token ids:
a request of 128k tokens in 16-token blocks costs some 40 kB once, in the step that loads it, and
nothing after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


@dataclass
class LoadPlan:
    """Chunks to copy into the blocks of one request before its tokens are computed."""

    request_id: str
    refs: list[list[int]]  # [lane][piece]
    first_blocks: list[int]  # [piece]: first block to take, counted inside the chunk
    block_ids: list[list[int]]  # [piece]: where its blocks go
    # The last block is reused in part only: this step itself writes the rest of it.
    shares_last_block: bool
    # What the request asked for beyond vLLM's own cache, and what of it this loads; for statistics.
    asked_tokens: int = 0
    hit_tokens: int = 0

    def items(self, lane: int) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (slot, first block of the chunk, block ids) for a rank."""
        return zip(self.refs[lane], self.first_blocks, self.block_ids, strict=True)


@dataclass
class StorePlan:
    """Chunks of one request whose KV is complete after this step."""

    request_id: str
    refs: list[list[int]]  # [lane][piece]; 0: nothing to store
    block_ids: list[list[int]]  # [piece]: which blocks hold it
    # Computed by earlier steps that are known to have gone well. Otherwise a failed load in this
    # step may have spoilt it, and it must not be stored.
    confirmed: bool

    def items(self, lane: int) -> list[tuple[int, list[int]]]:
        """Return (slot, block ids) for a rank."""
        pairs = zip(self.refs[lane], self.block_ids, strict=True)
        return [(ref, blocks) for ref, blocks in pairs if ref]


@dataclass
class StepPlan(KVConnectorMetadata):
    """All of one step. An empty one costs the workers nothing."""

    loads: list[LoadPlan] = field(default_factory=list)
    stores: list[StorePlan] = field(default_factory=list)
    # Blocks that vLLM counts as loaded and that nothing will load: reported as failed.
    lost_blocks: list[int] = field(default_factory=list)
    # Requests whose blocks are taken away in this step: their copies must end before it computes.
    preempted: list[str] = field(default_factory=list)
    # Finished requests whose blocks vLLM keeps until the worker says that their copies ended.
    released: list[str] = field(default_factory=list)
    # Prompt tokens this step computes, to measure how fast that goes.
    prefill_tokens: int = 0

    def blocks_to_load(self) -> Iterable[int]:
        """Yield every block that must hold loaded KV after the loads of this step."""
        yield from self.lost_blocks
        for load in self.loads:
            for blocks in load.block_ids:
                yield from blocks
