# SPDX-License-Identifier: Apache-2.0
"""What the scheduler half tells every worker half in one step: which slots to copy from and to.

It is pickled to each worker in each step, so it names slots and blocks and never carries token ids:
a request of 128k tokens in 16-token blocks costs some 40 kB once, in the step that loads it, and
nothing after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


@dataclass
class LoadPlan:
    """Chunks to copy into the blocks of one request before its tokens are computed."""

    request_id: str
    refs: list[list[int]]  # [lane][piece]
    # [group][piece]: first block to take, counted inside the chunk
    first_blocks: list[list[int]]
    # [group][piece]: where its blocks go; nowhere, if a window has passed them
    block_ids: list[list[list[int]]]
    # The last block is reused in part only: this step itself writes the rest of it.
    shares_last_block: bool
    # What the request asked for beyond vLLM's own cache, and what of it this loads; for statistics.
    asked_tokens: int = 0
    hit_tokens: int = 0
    # The request waits in vLLM's queue until its blocks are there, instead of in this step.
    ahead: bool = False

    def items(self, lane: int, group: int) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (slot, first block of the chunk, block ids) for a lane, which is of this group."""
        pieces = zip(self.refs[lane], self.first_blocks[group], self.block_ids[group], strict=True)
        return (piece for piece in pieces if piece[2])


@dataclass
class StorePlan:
    """Chunks of one request whose KV is complete after this step."""

    request_id: str
    refs: list[list[int]]  # [lane][piece]; 0: nothing to store
    block_ids: list[list[list[int]]]  # [group][piece]: which blocks hold it
    # Computed by earlier steps that are known to have gone well. Otherwise a failed load in this
    # step may have spoilt it, and it must not be stored.
    confirmed: bool
    # This step draws the first token of an answer that goes on: a copy that takes the model's CPUs
    # begins with the next step.
    late: bool = False

    def items(self, lane: int, group: int) -> list[tuple[int, list[int]]]:
        """Return (slot, block ids) for a lane, which is of this group."""
        pairs = zip(self.refs[lane], self.block_ids[group], strict=True)
        return [(ref, blocks) for ref, blocks in pairs if ref]


@dataclass
class StepPlan(KVConnectorMetadata):
    """All of one step. An empty one costs the workers nothing."""

    loads: list[LoadPlan] = field(default_factory=list)
    stores: list[StorePlan] = field(default_factory=list)
    # Blocks that vLLM counts as loaded and that nothing will load: reported as failed.
    lost_blocks: list[int] = field(default_factory=list)
    # Requests that were to load ahead and cannot: reported as failed.
    lost_requests: list[str] = field(default_factory=list)
    # Requests whose blocks are taken away in this step: their copies must end before it computes.
    preempted: list[str] = field(default_factory=list)
    # Finished requests whose blocks vLLM keeps until the worker says that their copies ended.
    released: list[str] = field(default_factory=list)
    # Prompt tokens this step computes, to measure how fast that goes.
    prefill_tokens: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do in the step, as in most that only decode."""
        return not (
            self.stores
            or self.loads
            or self.lost_blocks
            or self.lost_requests
            or self.preempted
            or self.released
            or self.prefill_tokens
        )

    def blocks_to_load(self) -> Iterable[int]:
        """Yield every block that must hold loaded KV after the loads of this step."""
        yield from self.lost_blocks
        for load in self.loads:
            if not load.ahead:
                for blocks in load.block_ids[0]:
                    yield from blocks

    def waiting_requests(self) -> Iterable[str]:
        """Yield every request that waits in vLLM's queue for what this step begins."""
        yield from self.lost_requests
        yield from (load.request_id for load in self.loads if load.ahead)


def computed_tokens(output: Any) -> dict[str, int]:
    """Return, for each scheduled request, the tokens that are computed or loaded before this step
    computes.
    """
    computed = {new.req_id: int(new.num_computed_tokens) for new in output.scheduled_new_reqs}
    cached = output.scheduled_cached_reqs
    computed.update(zip(cached.req_ids, map(int, cached.num_computed_tokens), strict=True))
    return computed
