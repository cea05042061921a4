# SPDX-License-Identifier: Apache-2.0
"""Threads that carry out an engine's calls to a remote store whose client is in Python.

A buffer of a call is a view of a slot in the engine's memory. The engine gets the slot back when
the call was answered and no view of the slot, nor anything made of one, is left: what a client
still holds cannot become somebody else's chunk. Likewise the segment stays mapped while there is a
view of it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from lmcache import _native
from lmcache.config.value_types import hide_password
from lmcache.errors import LMCacheError
from lmcache.remote.base import Remote, RemoteUse

Log = Callable[[int, str], None]

_LONGEST_TEXT = 300
_LONGEST_PAUSE_S = 2.0
_LONGEST_CLOSE_S = 5.0  # a client's call may never return


class RemoteService:
    """Serves `calls` with `remote`, until they are closed; then closes `remote`.

    `threads`: how many calls may run at once; one more than transfer chunks, so that a lookup is
    never stuck behind them. `name` and `log` are for messages, from which `secret` is taken out.
    The engine closes `calls`; then the threads end, and the last one closes the remote, which is
    the caller's until start(). Thread-safe.
    """

    def __init__(
        self, name: str, remote: Remote, *, threads: int, log: Log, secret: str = ""
    ) -> None:
        self.calls = _native.RemoteCalls(name)
        self._remote = remote
        self._wanted = threads
        self._log = log
        self._secret = secret
        self._process = os.getpid()
        self._lock = threading.Lock()  # guards _threads, _running and _closed
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._closed = False
        self._memory: list[memoryview] = []
        self._attached = 0  # of them
        self._begun = False
        # When the interpreter ends, after the engine, which was opened later: threads that it froze
        # would answer nobody, and whoever waits for them would wait for ever.
        self._at_exit = weakref.finalize(self.calls, self.close)

    def start(self, memory: Sequence[memoryview] = ()) -> None:
        """Begin to serve; all buffers of calls will lie in `memory`, but those of headers."""
        self._memory = [*memory, self.calls.lend_headers()]
        # One alone until the remote knows the memory.
        self._start_thread()

    def attach(self, memory: memoryview) -> None:
        """Tell of more memory, after start() and while nobody calls."""
        self._memory.append(memory)
        if self._begun:
            self._attach()

    def close(self) -> None:
        """End: what runs is waited for, 5 s at most, everything else fails. May be repeated."""
        if os.getpid() != self._process:
            return  # a fork has none of the threads
        self.calls.close()
        with self._lock:
            threads = list(self._threads)
        deadline = time.monotonic() + _LONGEST_CLOSE_S
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        if not threads:
            self._at_exit.detach()

    def _start_thread(self) -> None:
        with self._lock:
            name = f"lmc-store{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
            self._running += 1

    def _serve(self) -> None:
        while self._serve_one():
            pass
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self._close_remote()

    def _serve_one(self) -> bool:
        call = self.calls.take()
        if call is None:
            return False
        failure = "" if self._begun else self._begin()
        if failure:
            call.fail(failure)
        else:
            carry_out(self._remote, call, self._secret)
        return True

    def _begin(self) -> str:
        """Tell the remote of the memory and start the other threads; return why that failed."""
        try:
            self._attach()
        except BaseException as error:  # a thread that ended would serve nobody
            return failure_text(error, self._secret)
        self._begun = True
        with contextlib.suppress(RuntimeError):  # no more threads: fewer calls at once
            for _ in range(self._wanted - 1):
                self._start_thread()
        return ""

    def _attach(self) -> None:
        while self._attached < len(self._memory):
            self._remote.attach(self._memory[self._attached])
            self._attached += 1

    def _close_remote(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._remote.close()
        except Exception as error:
            text = failure_text(error, self._secret)
            self._log(logging.WARNING, f"remote cache {self.calls.name}: closing it: {text}")
        self._memory.clear()
        self._at_exit.detach()


def carry_out(remote: Remote, call: _native.RemoteCall, secret: str = "") -> None:
    """Run one call and answer it, whatever happens."""
    buffers = call.buffers()
    try:
        _answer(call, _run(remote, call, buffers))
    except BaseException as error:  # a thread that ended would serve nobody
        call.fail(failure_text(error, secret))
    while buffers:
        for view in buffers.pop():
            with contextlib.suppress(BufferError):  # the client made something of it
                view.release()
            del view
    _free_cycles(call)


def _free_cycles(call: _native.RemoteCall) -> None:
    """Wait until no view of the call's memory is left, looking for those in garbage.

    An error that was kept in a cycle holds the client's frames, and they views. One look is not
    enough: it finds nothing while another thread looks.
    """
    pause_s = 0.01
    while not call.delivered:
        gc.collect()
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _answer(call: _native.RemoteCall, answer: list[int] | RemoteUse) -> None:
    if isinstance(answer, RemoteUse):
        call.answer_describe(
            server=answer.server,
            role=answer.role,
            used_bytes=answer.used_bytes,
            limit_bytes=answer.limit_bytes,
            chunks=answer.chunks,
        )
    else:
        call.answer(answer)


def _run(
    remote: Remote, call: _native.RemoteCall, buffers: list[list[memoryview]]
) -> list[int] | RemoteUse:
    op, keys = call.op, call.keys
    if op == "exists":
        return [int(size) for size in remote.exists(keys)]
    if op == "get_into":
        return [int(size) for size in remote.get_into(keys, [views[0] for views in buffers])]
    if op == "put":
        return [int(bool(there)) for there in remote.put(keys, buffers, call.ttl_seconds)]
    if op == "remove":
        return [int(remote.remove(keys))]
    if op == "clear":
        return [int(remote.clear())]
    if op == "describe":
        return remote.describe()
    remote.ping()
    return []


def failure_text(error: BaseException, secret: str = "") -> str:
    """Return class and message of an error as one line without passwords.

    Our own errors have messages that say all.
    """
    text = " ".join(str(error).split())
    if secret:
        text = text.replace(secret, "***")
    name = type(error).__name__
    text = hide_password(text)
    if not text or not isinstance(error, LMCacheError):
        text = f"{name}: {text}" if text else name
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
