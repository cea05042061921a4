# SPDX-License-Identifier: Apache-2.0
"""What the scheduler half remembers of one request, from the first lookup until its blocks are
free.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm import compat

if TYPE_CHECKING:
    from lmcache import _native

# How a request may end so that what it computed is whole and worth keeping.
_GOOD_ENDS = frozenset({"FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_REPETITION"})


class RequestState:
    """One thread: the scheduler's."""

    __slots__ = (
        "_appended",
        "ahead_blocks",
        "asked_tokens",
        "failed_ahead",
        "fetch",
        "fetched",
        "fetching_since",
        "hit",
        "late_step",
        "load_from",
        "load_tokens",
        "namespace",
        "next_chunk",
        "outdated",
        "prompt",
        "request",
        "tail_stored",
    )

    def __init__(self, request: Any, namespace: _native.Namespace, prompt: _native.Prompt) -> None:
        self.request = request
        self.namespace = namespace
        self.prompt = prompt
        # Lease on what the last lookup found; kept until the load ended or the request is gone.
        self.hit: _native.Hit | None = None
        # What the last lookup did not find in memory, on its way there from disk. Tried once each
        # time the request waits.
        self.fetch: _native.Fetch | None = None
        self.fetched = False
        self.fetching_since = 0.0
        # Tokens [load_from, load_from + load_tokens) are to be loaded in the step that schedules
        # the request.
        self.load_from = 0
        self.load_tokens = 0
        # Where they go, while the request waits in vLLM's queue and holds these blocks; else None.
        self.ahead_blocks: tuple[list[int], ...] | None = None
        self.failed_ahead = False  # so that it is not tried again and again
        self.asked_tokens = 0  # by the last lookup; 0: there was none
        self.next_chunk = 0  # the first one that is neither found nor planned to be stored
        self.tail_stored = False
        self.late_step = 0  # the step after which its stores may begin with the next one
        # After a reset of the cache nothing of it is stored until it starts anew.
        self.outdated = False
        self._appended = 0
        for item in sorted(
            request.mm_features, key=lambda feature: int(feature.mm_position.offset)
        ):
            position = item.mm_position
            content = hashlib.sha256(str(item.identifier).encode()).digest()
            prompt.add_item(int(position.offset), int(position.length), content)

    @property
    def request_id(self) -> str:
        return str(self.request.request_id)

    def hash_new_tokens(self) -> None:
        """Extend the chain of keys to the tokens there are by now; each is hashed once."""
        count = int(self.request.num_tokens)
        if count > self._appended:
            self.prompt.append(self.request.all_token_ids[self._appended : count])
            self._appended = count

    def confirmed_tokens(self) -> int:
        """Tokens whose KV was computed by steps that are over and went well."""
        return int(self.request.num_computed_tokens) - compat.in_flight_tokens(self.request)

    def goes_on_after_first(self, computed: int, end: int) -> bool:
        """Whether a step that computes tokens `computed`..`end` draws the first token of an answer,
        and not its only one, as far as that is known.
        """
        left = int(self.request.max_tokens) - int(self.request.num_output_tokens)
        return computed < int(self.request.num_prompt_tokens) <= end and left > 1

    def ended_well(self) -> bool:
        """False for requests that were aborted or that failed."""
        return self.request.status.name in _GOOD_ENDS

    def release_hit(self) -> None:
        """Give the lease back; the chunks may be evicted from now on."""
        if self.hit is not None:
            self.hit.release()
            self.hit = None

    def release_fetch(self) -> None:
        """Stop waiting for the disk; what is still under way arrives for others."""
        if self.fetch is not None:
            self.fetch.release()
            self.fetch = None


def is_cacheable(request: Any) -> bool:
    """Whether the KV of a request follows from its token ids alone (and its multimodal items).

    Not so for embeddings given by the caller. Streamed sessions replace tokens that were hashed
    already.
    """
    return (
        bool(request.prompt_token_ids)
        and request.prompt_embeds is None
        and getattr(request, "prompt_is_token_ids", None) is None
        and not getattr(request, "resumable", False)
    )
