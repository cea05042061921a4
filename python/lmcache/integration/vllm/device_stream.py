# SPDX-License-Identifier: Apache-2.0
"""The queue on which vLLM's model computes: how copies are ordered against it, and how it is timed.

On the host the model computes when it is called, so a wait is a wait. On a GPU everything that is
called is put on a stream and happens later. The order of a step, as vLLM 0.32 calls (both of its
model runners), and what keeps it right there:

1. `begin_step`: blocks of preempted requests are free when it returns. The host has waited for the
   copies out of them, and what overwrites them is put on the stream after that.
2. `start_load_kv`: a load waits, on the device, for what is on the stream by now: steps that still
   read or write the blocks for whoever had them before, and vLLM's clearing of new ones. The step
   is put on the stream behind a wait for the load, so it is computed with the KV in place. The host
   goes on at once.
3. `wait_for_layer_load`, from within the model as it is put on the stream: the stream waits for the
   planes of that layer. Captured graphs skip it; then it was told in 2 to wait for all planes.
4. `wait_for_save`: the whole step is on the stream by now. A store waits, on the device, for all of
   it. Whole chunks are stored, which no later step writes to; their blocks are given to nobody else
   before the store has ended: vLLM holds those of finished requests until we say so, 1 covers the
   rest.
5. `get_block_ids_with_load_errors`, or 4 before: the host waits for the step's loads, since only
   then it is known whether they succeeded. vLLM takes the tokens of a step after this call and
   drops those that depend on a block which it names. What is waited for are the copies, and what
   was on the stream before them; not the step itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lmcache import _native

LoadItems = list[tuple[int, int, list[int]]]  # slot, first block of the chunk, block ids
StoreItems = list[tuple[int, list[int]]]  # slot, block ids
ALL_PLANES = 2**32 - 1


class DeviceStream(Protocol):
    """One thread: the model runner's."""

    waits_on_device: bool  # whether `wait_plane` leaves the waiting to the device

    def submit_load(self, engine: _native.Engine, view: int, items: LoadItems) -> int:
        """Start a load; return the job."""

    def submit_store(self, engine: _native.Engine, view: int, items: StoreItems) -> int:
        """Start a store of what the model has been told to compute; return the job."""

    def wait_plane(self, engine: _native.Engine, job: int, plane: int, timeout_ms: int) -> bool:
        """See to it that the model finds planes 0..`plane`. False: it will not, or not in time."""

    def mark(self) -> Any:
        """Return a point in the model's time: when all is computed that was called so far."""

    def seconds(self, begin: Any, end: Any) -> float | None:
        """Return the time between two marks; None: it is not known yet."""


class HostStream:
    """KV in host memory, and a model that computes while it is called."""

    waits_on_device = False

    def submit_load(self, engine: _native.Engine, view: int, items: LoadItems) -> int:
        return engine.submit_load(view, items)

    def submit_store(self, engine: _native.Engine, view: int, items: StoreItems) -> int:
        return engine.submit_store(view, items)

    def wait_plane(self, engine: _native.Engine, job: int, plane: int, timeout_ms: int) -> bool:
        return engine.wait_plane(job, plane, timeout_ms)

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class CudaStream:
    """KV in the memory of a CUDA device. Asks each time which stream it is: vLLM changes it."""

    waits_on_device = True

    def __init__(self, device: int, torch_cuda: Any) -> None:
        self._device = device
        self._cuda = torch_cuda

    def _current(self) -> Any:
        return self._cuda.current_stream(self._device)

    def _handle(self) -> int:
        return int(self._current().cuda_stream)

    def submit_load(self, engine: _native.Engine, view: int, items: LoadItems) -> int:
        return engine.submit_load(view, items, self._handle())

    def submit_store(self, engine: _native.Engine, view: int, items: StoreItems) -> int:
        return engine.submit_store(view, items, self._handle())

    def wait_plane(self, engine: _native.Engine, job: int, plane: int, timeout_ms: int) -> bool:
        return engine.stream_wait_plane(job, plane, self._handle(), timeout_ms)

    def mark(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(self._current())
        return event

    def seconds(self, begin: Any, end: Any) -> float | None:
        if not end.query():
            return None
        return float(begin.elapsed_time(end)) / 1000


def stream_for(cuda_device: int | None) -> DeviceStream:
    """Return the stream of the device that the KV lies on; None: the host."""
    if cuda_device is None:
        return HostStream()
    import torch

    return CudaStream(cuda_device, torch.cuda)
