# SPDX-License-Identifier: Apache-2.0
"""Two parsers of what a Redis server says, ours and redis-py's, and one form for what they read."""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from redis._parsers.base import BaseParser
from redis._parsers.resp2 import _RESP2Parser
from redis._parsers.resp3 import _RESP3Parser
from redis.exceptions import ConnectionError as Closed

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path("build/dev/tests/cpp/net_resp_values")  # tests/cpp/net/resp_values_main.cpp
ANSWER_SECONDS = 30  # of a parser that takes a millisecond


@dataclass(frozen=True)
class Said:
    """What our parser read, and why it stopped: `closed` or `corrupted`."""

    values: list[Any]
    end: str
    why: str


class OurParser:
    """The program that reads with `RespReader`."""

    def __init__(self) -> None:
        program = ROOT / PROGRAM
        if not program.exists():  # no skip: nobody would notice
            raise FileNotFoundError(
                f"{PROGRAM} is missing: cmake --preset dev && "
                f"cmake --build --preset dev --target {PROGRAM.name}"
            )
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def read(self, data: bytes, cuts: list[int], *, bulks: bool = False) -> Said:
        """Return what it reads of bytes that arrive in pieces of these sizes, again and again."""
        assert self._process.stdin is not None
        numbers = [int(bulks), len(cuts), *cuts, len(data)]
        message = memoryview(struct.pack(f"<{len(numbers)}I", *numbers) + data)
        while message:  # a raw pipe takes what it has room for
            message = message[self._process.stdin.write(message) or 0 :]
        said = json.loads(self._line())
        return Said(
            [_of_ours(value) for value in said["values"]],
            said["end"],
            bytes.fromhex(said["why"]).decode(errors="replace"),
        )

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        pipe, line = self._process.stdout.fileno(), bytearray()
        deadline = time.monotonic() + ANSWER_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                self._process.kill()
                raise TimeoutError("RespReader hangs")
            piece = os.read(pipe, 1 << 20)
            assert piece, f"the program ended with {self._process.wait()}"
            line += piece
        return bytes(line)

    def close(self) -> None:
        """End the program; it must have been well until then."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        assert self._process.wait(ANSWER_SECONDS) == 0


class _Pieces:
    """A socket that delivers bytes in pieces of these sizes, again and again, and then closes."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self._data, self._cuts, self._next = memoryview(data), cuts, 0

    def recv(self, size: int) -> bytes:
        if self._cuts:
            size = min(size, self._cuts[self._next % len(self._cuts)])
            self._next += 1
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


def redis_py(data: bytes, cuts: list[int], protocol: int, most: int = 1 << 20) -> list[Any]:
    """Return what redis-py reads of them, up to the end or so many values."""
    parser = (_RESP2Parser if protocol == 2 else _RESP3Parser)(1 << 16)
    parser.on_connect(
        SimpleNamespace(_sock=_Pieces(data, cuts), socket_timeout=None, encoder=object())
    )
    values: list[Any] = []
    with contextlib.suppress(Closed):  # also for LOADING and the like, which it reads only so
        while len(values) < most:
            values.append(_form(parser.read_response(disable_decoding=True)))
    return values


def _form(value: Any) -> Any:
    """Return a form that compares as equal what is equal: 1 is not True, and nan is nan."""
    if isinstance(value, float):
        return ("float", struct.pack(">d", value) if value == value else "nan")
    if isinstance(value, dict):
        return ("map", [(_form(key), _form(item)) for key, item in value.items()])
    if isinstance(value, list):
        return [_form(item) for item in value]
    if isinstance(value, Exception):
        return ("error", type(value).__name__, str(value))
    return (type(value).__name__, value)


def _of_ours(value: Any) -> Any:
    return _form(_as_redis_py_has_it(value))


def _as_redis_py_has_it(value: tuple[str, Any]) -> Any:
    kind, content = value
    if kind in ("array", "set"):
        return [_as_redis_py_has_it(item) for item in content]
    if kind == "map":
        items = [_as_redis_py_has_it(item) for item in content]
        # Of a key that comes twice the last value counts there; a list can be no key.
        hashable = not any(isinstance(key, (list, dict)) for key in items[::2])
        pairs = list(zip(items[::2], items[1::2], strict=True))
        return dict(pairs) if hashable else pairs
    if kind in ("null", "integer"):
        return content
    if kind == "boolean":
        return bool(content)
    text = bytes.fromhex(content)
    if kind == "error":
        return BaseParser.parse_error(text.decode(errors="replace"))
    if kind == "double":
        return float(text)
    return int(text) if kind == "big" else text
