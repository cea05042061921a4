# SPDX-License-Identifier: Apache-2.0
"""What workers tell the scheduler half after a step, when there is something to tell.

Not every front door passes it on; the scheduler half then finds out more slowly (`store_ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorWorkerMetadata


@dataclass
class WorkerReport(KVConnectorWorkerMetadata):
    """One rank's report, or the sum of several."""

    # Slots that were to be filled and will not be.
    dropped_refs: list[int] = field(default_factory=list)
    # Ranks that go on without the cache; no copy of theirs is running.
    ranks_off: int = 0
    # Why, unless the rank has said so in the log itself.
    reasons: list[str] = field(default_factory=list)

    def aggregate(self, other: Any) -> WorkerReport:
        """Return the sum of two reports."""
        return WorkerReport(
            self.dropped_refs + other.dropped_refs,
            self.ranks_off + other.ranks_off,
            self.reasons + other.reasons,
        )
