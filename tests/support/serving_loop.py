# SPDX-License-Identifier: Apache-2.0
"""vLLM's step loop around `PagedModel`, reduced to what a connector sees of it (vLLM 0.32's rules).

Continuous batching with chunked prefill, preemption when blocks run out, blocks that are reused at
once, recomputation from the first block that failed to load, and blocks that outlive their request
while the connector says so. No prefix cache of its own.
"""

from __future__ import annotations

import pickle
import types
from dataclasses import dataclass, field
from typing import Any

from paged_model import PagedModel


@dataclass
class Request:
    """What connectors read of vLLM's request."""

    request_id: str
    prompt_token_ids: list[int]
    max_tokens: int = 1
    cache_salt: str | None = None
    lora_request: Any = None
    mm_features: list[Any] = field(default_factory=list)
    skip_reading_prefix_cache: bool = False
    prompt_embeds: Any = None
    output_token_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    num_in_flight_tokens: int = 0
    num_preemptions: int = 0
    state: str = "WAITING"
    # Of the loop, for the tests: tokens taken from the connector when it was last scheduled anew.
    loaded_tokens: int = 0
    blocks: list[int] = field(default_factory=list)

    @property
    def status(self) -> Any:
        return types.SimpleNamespace(name=self.state)

    @property
    def all_token_ids(self) -> list[int]:
        return self.prompt_token_ids + self.output_token_ids

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.output_token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.output_token_ids)

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    def is_finished(self) -> bool:
        return self.state.startswith("FINISHED")


class ServingLoop:
    """One engine: a scheduler half, the worker halves of all ranks, and the model between them."""

    def __init__(
        self, model: PagedModel, scheduler: Any, workers: list[Any], budget: int = 64
    ) -> None:
        self.model, self.scheduler, self.workers = model, scheduler, workers
        self.budget = budget  # tokens computed per step
        self.free = list(range(model.blocks))
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.held: dict[
            str, tuple[Request, int]
        ] = {}  # finished, blocks still in use by so many ranks
        self.preempted: set[str] = set()
        self.finished_ids: set[str] = set()
        self.plans: list[Any] = []
        self.passes_reports = True  # not every front door does

    def add(self, request: Request) -> Request:
        self.waiting.append(request)
        return request

    def run(self, *requests: Request) -> list[list[int]]:
        """Serve requests to the end, and until all blocks are free again; return what they
        generated.
        """
        for request in requests:
            self.add(request)
        for _ in range(10_000):
            if not (self.waiting or self.running or self.held):
                break
            self.step()
        else:
            raise AssertionError("the loop does not end")
        assert len(self.free) == self.model.blocks
        return [request.output_token_ids for request in requests]

    def step(self) -> None:
        scheduled = self._schedule()
        output = self._output(scheduled)
        self.preempted, self.finished_ids = set(), set()
        plan = pickle.loads(pickle.dumps(self.scheduler.plan_step(output)))
        self.plans.append(plan)
        for request, count in scheduled.values():
            request.num_computed_tokens += count
        bad, generated = self._execute(plan, scheduled)
        self._update(scheduled, bad, generated)

    # Scheduling.

    def _schedule(self) -> dict[str, tuple[Request, int]]:
        left = self.budget
        scheduled: dict[str, tuple[Request, int]] = {}
        for request in list(self.running):
            if request not in self.running or left == 0:
                continue
            count = min(left, request.num_tokens - request.num_computed_tokens)
            while not self._allocate(request, request.num_computed_tokens + count):
                victim = self.running[-1]
                self._preempt(victim)
                scheduled.pop(victim.request_id, None)
                if victim is request:
                    break
            else:
                scheduled[request.request_id] = (request, count)
                left -= count
        while self.waiting and left > 0 and not self.preempted:
            request = self.waiting[0]
            external = self.scheduler.matched_tokens(request, 0)
            assert 0 <= external < request.num_tokens
            if request.skip_reading_prefix_cache:
                external = 0
            count = min(left, request.num_tokens - external)
            if not self._allocate(request, external + count):
                break
            self.scheduler.allocated(request, external)
            request.loaded_tokens = request.num_computed_tokens = external
            request.state = "RUNNING"
            self.running.append(self.waiting.pop(0))
            scheduled[request.request_id] = (request, count)
            left -= count
        return scheduled

    def _allocate(self, request: Request, tokens: int) -> bool:
        missing = -(-tokens // self.model.block_tokens) - len(request.blocks)
        if missing > len(self.free):
            return False
        for _ in range(missing):
            request.blocks.append(self.free.pop(0))
        return True

    def _free_blocks(self, request: Request) -> None:
        self.free = request.blocks[::-1] + self.free  # the next one to ask overwrites them
        request.blocks = []

    def _preempt(self, request: Request) -> None:
        self.running.remove(request)
        self._free_blocks(request)
        request.state, request.num_computed_tokens = "PREEMPTED", 0
        request.num_preemptions += 1
        self.preempted.add(request.request_id)
        self.waiting.insert(0, request)

    def _output(self, scheduled: dict[str, tuple[Request, int]]) -> Any:
        rows = [(name, request.num_computed_tokens) for name, (request, _) in scheduled.items()]
        cached = types.SimpleNamespace(
            req_ids=[name for name, _ in rows], num_computed_tokens=[count for _, count in rows]
        )
        blocks = {name: (list(request.blocks),) for name, (request, _) in scheduled.items()}
        return types.SimpleNamespace(
            num_scheduled_tokens={name: count for name, (_, count) in scheduled.items()},
            scheduled_new_reqs=[],
            scheduled_cached_reqs=cached,
            preempted_req_ids=set(self.preempted),
            finished_req_ids=set(self.finished_ids),
            kv_connector_block_state=types.SimpleNamespace(get_block_ids=blocks.get),
        )

    # Execution.

    def _execute(self, plan: Any, scheduled: dict[str, tuple[Request, int]]) -> Any:
        for worker in self.workers:
            worker.begin_step(plan)
            worker.load()
        generated = {}
        for name, (request, count) in scheduled.items():
            tokens = request.all_token_ids[: request.num_computed_tokens]
            generated[name] = self.model.forward(
                tokens,
                request.num_computed_tokens - count,
                request.blocks,
                lambda rank, layer: self.workers[rank].wait_for_layer(f"layer{layer}"),
            )
        bad: set[int] = set()
        report: Any = None
        for worker in self.workers:
            worker.store()
            for name in worker.take_ended():
                request, ranks = self.held[name]
                self.held[name] = (request, ranks - 1)
            bad |= worker.take_bad_blocks()
            part = worker.take_report()
            report = part if report is None else report.aggregate(part) if part else report
        for name in [name for name, (_, ranks) in self.held.items() if ranks == 0]:
            self._free_blocks(self.held.pop(name)[0])
        if report is not None and self.passes_reports:
            self.scheduler.take_report(report)
        return bad, generated

    def _update(
        self, scheduled: dict[str, tuple[Request, int]], bad: set[int], generated: dict[str, int]
    ) -> None:
        size = self.model.block_tokens
        for name, (request, count) in scheduled.items():
            before = request.num_computed_tokens - count
            failed = [i for i in range(-(-before // size)) if request.blocks[i] in bad]
            if failed:
                request.num_computed_tokens = failed[0] * size
            elif request.num_computed_tokens == request.num_tokens:
                request.output_token_ids.append(generated[name])
                if len(request.output_token_ids) == request.max_tokens:
                    self.end(request, "FINISHED_LENGTH_CAPPED")

    def end(self, request: Request, state: str) -> None:
        """End a request; "FINISHED_ABORTED" is what a client that goes away causes."""
        queue = self.running if request in self.running else self.waiting
        queue.remove(request)
        request.state = state
        self.finished_ids.add(request.request_id)
        used = -(-request.num_computed_tokens // self.model.block_tokens)
        if self.scheduler.finished(request, (request.blocks[:used],)):
            self.held[request.request_id] = (request, len(self.workers))
        else:
            self._free_blocks(request)
