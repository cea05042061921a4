# SPDX-License-Identifier: Apache-2.0
"""Which stream copies are ordered against, with a stand-in for `torch.cuda`: no GPU is needed."""

from __future__ import annotations

import types

import pytest

from lmcache.integration.vllm.device_stream import CudaStream, HostStream, stream_for


class Event:
    """A CUDA event that is reached when the test says so."""

    def __init__(self, *, enable_timing):
        assert enable_timing
        self.reached = False
        self.at_ms = 0.0

    def record(self, stream):
        self.stream = stream.cuda_stream

    def query(self):
        return self.reached

    def elapsed_time(self, end):
        assert end.reached
        return end.at_ms - self.at_ms


class Cuda:
    """`torch.cuda` of a process whose current stream changes."""

    Event = Event

    def __init__(self):
        self.handle = 0
        self.asked = []

    def current_stream(self, device):
        self.asked.append(device)
        return types.SimpleNamespace(cuda_stream=self.handle)


class Engine:
    """Writes down what it is asked."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            return True

        return call


def test_on_the_host_there_is_no_stream():
    engine, stream = Engine(), stream_for(None)
    assert isinstance(stream, HostStream)
    assert not stream.waits_on_device
    stream.submit_load(engine, 1, [])
    stream.submit_store(engine, 2, [])
    assert stream.wait_plane(engine, 3, 4, 5)
    assert engine.calls == [
        ("submit_load", 1, []),
        ("submit_store", 2, []),
        ("wait_plane", 3, 4, 5),
    ]
    begin = stream.mark()
    assert stream.seconds(begin, begin + 2.0) == 2.0


def test_every_call_names_the_stream_that_is_current_then():
    engine, cuda = Engine(), Cuda()
    stream = CudaStream(1, cuda)
    assert stream.waits_on_device
    stream.submit_load(engine, 1, [])  # on the default stream: 0, not None
    cuda.handle = 77
    stream.submit_store(engine, 2, [])
    assert stream.wait_plane(engine, 3, 4, 5)
    assert engine.calls == [
        ("submit_load", 1, [], 0),
        ("submit_store", 2, [], 77),
        ("stream_wait_plane", 3, 4, 77, 5),
    ]
    assert cuda.asked == [1, 1, 1]


def test_time_on_a_device_is_known_when_the_device_has_got_there():
    cuda = Cuda()
    cuda.handle = 77
    stream = CudaStream(0, cuda)
    begin, end = stream.mark(), stream.mark()
    assert end.stream == 77
    begin.reached, begin.at_ms = True, 10.0
    assert stream.seconds(begin, end) is None
    end.reached, end.at_ms = True, 260.0
    assert stream.seconds(begin, end) == 0.25


def test_the_stream_of_a_device_is_torchs():
    torch = pytest.importorskip("torch", reason="torch.cuda, which needs no GPU to be named")
    stream = stream_for(2)
    assert isinstance(stream, CudaStream)
    assert stream._cuda is torch.cuda
    assert stream._device == 2
