# SPDX-License-Identifier: Apache-2.0
"""A Redis cluster of a test's own: masters only, the slots shared out evenly."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from redis.crc import key_slot
from redis_server import RedisServer, free_port, until
from tls_files import TlsFiles

SLOTS = 16384


class RedisCluster:
    """Its servers; they take commands in the clear also where clients of the cluster use TLS."""

    def __init__(self, nodes: int = 3, tls: TlsFiles | None = None) -> None:
        self._tls = tls
        self._bus_ports = [free_port() for _ in range(nodes)]
        self._tls_ports = [free_port() for _ in range(nodes)] if tls else []
        with ExitStack() as started:
            self.servers: list[RedisServer] = []
            for node in range(nodes):
                self.servers.append(RedisServer(options=self._options(node)))
                started.callback(self.servers[-1].remove)
            self.ids = [self.call(node, "MYID").decode() for node in range(nodes)]
            self._meet()
            self._started = started.pop_all()

    def _options(self, node: int) -> tuple[str, ...]:
        bus = ("--cluster-port", str(self._bus_ports[node]))
        # Without full coverage the slots of other masters are served while one is down.
        partial = ("--cluster-require-full-coverage", "no")
        return (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "5000", *bus, *partial),
            *(self._tls_options(self._tls, node) if self._tls else ()),
        )

    def _tls_options(self, tls: TlsFiles, node: int) -> tuple[str, ...]:
        files = ("--tls-ca-cert-file", tls.ca, "--tls-cert-file", tls.cert)
        port = ("--tls-port", str(self._tls_ports[node]))
        # As only a cluster whose nodes use it among themselves tells clients the ports with TLS.
        return (*port, *files, "--tls-key-file", tls.key, "--tls-cluster", "yes")

    def _meet(self) -> None:
        count = len(self.servers)
        for node in range(count):
            self.call(node, "SET-CONFIG-EPOCH", node + 1)
            first, last = SLOTS * node // count, SLOTS * (node + 1) // count - 1
            self.call(node, "ADDSLOTSRANGE", first, last)
        for node in range(count):
            self.call(node, "MEET", "127.0.0.1", *self._ports((node + 1) % count))
        for node in range(count):
            until(lambda node=node: self._is_up(node))  # type: ignore[misc]

    def _ports(self, node: int) -> tuple[int, int]:
        return (self._tls_ports or [it.port for it in self.servers])[node], self._bus_ports[node]

    def _is_up(self, node: int) -> bool:
        said = self.servers[node].client().execute_command("CLUSTER INFO")
        known = {"cluster_state": "ok", "cluster_known_nodes": str(len(self.servers))}
        return all(said[name] == value for name, value in known.items())

    @property
    def url(self) -> str:
        """Name one node only: the others are found."""
        if self._tls:
            return f"rediss-cluster://127.0.0.1:{self._tls_ports[0]}?{self._tls.query}"
        return f"redis-cluster://127.0.0.1:{self.servers[0].port}"

    def call(self, node: int, *words: Any) -> Any:
        """Send `CLUSTER ...` to a node."""
        with self.servers[node].client() as client:
            return client.execute_command("CLUSTER", *words)

    def chunks(self, node: int) -> list[bytes]:
        """Return the keys of chunks at a node."""
        return self.servers[node].chunks()

    def slots_of_chunks(self, node: int) -> list[int]:
        """Return the slots at a node that hold some."""
        return sorted({key_slot(key) for key in self.chunks(node)})

    def begin_move(self, slot: int, source: int, target: int) -> None:
        """As redis.io/docs/reference/cluster-spec has it under "Live reconfiguration"."""
        self.call(target, "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.call(source, "SETSLOT", slot, "MIGRATING", self.ids[target])

    def move_keys(self, slot: int, source: int, target: int) -> int:
        """Move the keys of a slot; return their number."""
        with self.servers[source].client() as client:
            keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
            for key in keys:
                where = ("127.0.0.1", self.servers[target].port)
                client.execute_command("MIGRATE", *where, key, 0, 20_000)
        return len(keys)

    def end_move(self, slot: int, source: int, target: int) -> None:
        """Tell both whose the slot is from now on."""
        for node in (target, source):
            self.call(node, "SETSLOT", slot, "NODE", self.ids[target])

    def remove(self) -> None:
        """Kill all."""
        self._started.close()

    def __enter__(self) -> RedisCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
