# SPDX-License-Identifier: Apache-2.0
"""A Redis master, its replica, and one sentinel that is enough to replace the master."""

from __future__ import annotations

from contextlib import ExitStack

from redis_server import RedisServer, until

NAME = "main"


class WatchedRedis:
    """Three servers. Remove them."""

    def __init__(self) -> None:
        with ExitStack() as started:
            self.master = RedisServer()
            started.callback(self.master.remove)
            follow = ("--replicaof", f"127.0.0.1 {self.master.port}")
            soon = ("--repl-diskless-sync-delay", "0")
            self.replica = RedisServer(options=(*follow, *soon))
            started.callback(self.replica.remove)
            self.sentinel = RedisServer(config=self._watch(), options=("--sentinel",))
            started.callback(self.sentinel.remove)
            until(self._is_linked)
            self._started = started.pop_all()

    def _watch(self) -> str:
        return (
            f"sentinel monitor {NAME} 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} 500\n"
            f"sentinel failover-timeout {NAME} 5000\n"
        )

    def _is_linked(self) -> bool:
        known = self.sentinel.client().execute_command("SENTINEL REPLICAS", NAME)
        return bool(self.replica.client().role()[3] == b"connected" and len(known) == 1)

    @property
    def url(self) -> str:
        return f"redis-sentinel://127.0.0.1:{self.sentinel.port}/{NAME}"

    def is_replicated(self) -> bool:
        """Tell whether the replica has all that the master has."""
        return int(self.master.client().execute_command("WAIT", 1, 10_000)) == 1

    def remove(self) -> None:
        """Kill all."""
        self._started.close()

    def __enter__(self) -> WatchedRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
