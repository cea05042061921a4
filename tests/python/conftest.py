# SPDX-License-Identifier: Apache-2.0
"""What tests of several folders need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis_server import INSTALLED, NOT_INSTALLED, RedisServer

MakeServer = Callable[..., RedisServer]


@pytest.fixture
def start_redis() -> Iterator[MakeServer]:
    """Return a function that starts a redis-server, which is killed afterwards."""
    if not INSTALLED:
        pytest.skip(NOT_INSTALLED)
    with ExitStack() as started:

        def start(**options: Any) -> RedisServer:
            server = RedisServer(**options)
            started.callback(server.remove)
            return server

        yield start


@pytest.fixture
def redis_server(start_redis: MakeServer) -> RedisServer:
    """Return a redis-server, empty."""
    return start_redis()
