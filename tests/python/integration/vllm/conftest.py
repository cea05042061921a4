# SPDX-License-Identifier: Apache-2.0
"""An engine to serve with: the real halves and the real native library around a model without
weights.
"""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faulty_engine import FaultyEngine
from paged_geometry import geometry
from paged_model import BLOCK, CHUNK, LAYERS, PagedModel
from serving_loop import ServingLoop

from lmcache.config import LMCacheConfig
from lmcache.integration.vllm.attachment import Attachment
from lmcache.integration.vllm.geometry import EngineGeometry


def attach(segment: str, shape: EngineGeometry) -> Attachment:
    """Attach as a worker of this rank would."""
    from lmcache import _native

    options = _native.EngineOptions(
        segment=segment,
        capacity_bytes=1 << 24,
        chunk_bytes_hint=shape.chunk_tokens * shape.slot_token_bytes,
        role="test",
    )
    engine = _native.Engine.open(options, lambda level, text: None)
    namespace = engine.open_namespace(shape.namespace(_native))
    for index, group in enumerate(shape.groups):
        engine.declare_lane(namespace, shape.lane(index), group.block_bytes)
    return Attachment(FaultyEngine(engine), shape, namespace)


def vllm_config(world: int = 1, batches: int = 1) -> Any:
    """Return what the halves read of vLLM's configuration."""
    return types.SimpleNamespace(
        max_concurrent_batches=batches,
        parallel_config=types.SimpleNamespace(world_size=world),
        compilation_config=types.SimpleNamespace(cudagraph_mode=None),
    )


@pytest.fixture
def segment() -> str:
    """The name of a segment nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def serve(segment: str) -> Iterator[Callable[..., ServingLoop]]:
    """Return a function that starts an engine on the test's segment; it is shut down at the end."""
    pytest.importorskip("vllm", reason="the connector needs vLLM")
    from lmcache.integration.vllm.scheduler import SchedulerHalf
    from lmcache.integration.vllm.worker import WorkerHalf

    loops: list[ServingLoop] = []

    def start(
        *, world: int = 1, blocks: int = 32, budget: int = 64, width: int = 1, **settings: Any
    ) -> ServingLoop:
        config = LMCacheConfig(**{"chunk_size": CHUNK, **settings})
        model = PagedModel(
            layers=LAYERS, world=world, blocks=blocks, block_tokens=BLOCK, width=width
        )
        workers = []
        for rank in range(world):
            attachment = attach(segment, geometry(world, rank, page_bytes=model.page_bytes))
            worker = WorkerHalf(attachment, config, vllm_config(world))
            tensors = {f"layer{i}": Plain(model.kv[rank, i]) for i in range(LAYERS)}
            worker.register(tensors, blocks)
            worker.engine = attachment.engine
            workers.append(worker)
        attachment = attach(segment, geometry(world, page_bytes=model.page_bytes))
        scheduler = SchedulerHalf(attachment, config, vllm_config(world), blocks)
        scheduler.engine = attachment.engine
        loops.append(ServingLoop(model, scheduler, workers, budget))
        return loops[-1]

    yield start
    for loop in loops:
        loop.scheduler.close()
        for worker in loop.workers:
            worker.close()


class Plain:
    """What `views` asks of a torch tensor, over an array whose first dimension counts blocks."""

    device = types.SimpleNamespace(type="cpu")

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = array.shape

    def element_size(self) -> int:
        return int(self._array.itemsize)

    def stride(self) -> tuple[int, ...]:
        return tuple(stride // self._array.itemsize for stride in self._array.strides)

    def data_ptr(self) -> int:
        return int(self._array.__array_interface__["data"][0])
