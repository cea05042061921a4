# SPDX-License-Identifier: Apache-2.0
"""What other clients get out of a remote store: redis-py, and redis-benchmark, which is in C.

Either is left out where it is not installed, or does not get in by the address that we use.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lmcache.errors import LMCacheError

# Below that of chunks: a user of the store who may touch nothing else may do this too, and
# `lmcache remote clear` removes what a killed process left.
_KEY_PREFIX = b"lmcache:1:bench:"
# Seconds after which a key goes that a killed process left.
LEFT_BEHIND_S = 3600
# The key of redis-benchmark, which it leaves behind.
_BENCHMARK_KEY = "key:__rand_int__"
_BENCHMARK_BYTES = 256 << 20
# It sends 20 values at least, and has four of them in memory.
_LARGEST_BENCHMARK_BYTES = 64 << 20
# Our query keys, and what redis-py calls them.
_TLS_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}


class RedisPy:
    """redis-py, one command after the other."""

    def __init__(
        self, client: Any, error: type[Exception], broken: tuple[type[Exception], ...] = ()
    ) -> None:
        """`error` is what the client raises, `broken` what of that is no answer of the server."""
        self._client = client
        self._error = error
        self._broken = (*broken, OSError)

    @staticmethod
    def connect(url: str, user: str = "", password: str = "") -> RedisPy | None:
        """Return a client of the store; user and password are for a URL that names none."""
        try:
            import redis
        except ImportError:
            return None
        place = urlsplit(url)
        query = dict(parse_qsl(place.query))
        options: dict[str, Any] = {
            theirs: query[ours] for ours, theirs in _TLS_FILES.items() if ours in query
        }
        if query.get("verify") == "no":
            options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        if "db" in query:
            options["db"] = int(query["db"])
        if user:
            options["username"] = user
        if password:
            options["password"] = password
        scheme = place.scheme.lower().replace("valkey", "redis")
        address = f"{scheme}://{place.netloc}{place.path}"
        try:
            client = redis.Redis.from_url(address, **options)
            client.ping()
        except (redis.RedisError, OSError, TypeError, ValueError):
            return None
        return RedisPy(client, redis.RedisError, (redis.ConnectionError, redis.TimeoutError))

    def move(self, keys: list[bytes], memory: memoryview, slot_bytes: int) -> dict[str, float]:
        """Return the seconds for sending `memory` in slots, and for getting it back.

        Nothing where it cannot: the server ends the connection at a value larger than its
        `proto-max-bulk-len`, 512 MB unless it was set.
        """
        names = [_KEY_PREFIX + key for key in keys]
        parts = [memory[i * slot_bytes : (i + 1) * slot_bytes] for i in range(len(keys))]
        try:
            started = time.perf_counter()
            try:
                for name, part in zip(names, parts, strict=True):
                    self._client.set(name, part, ex=LEFT_BEHIND_S)
                stored = time.perf_counter()
                for name, part in zip(names, parts, strict=True):
                    part[:] = self._client.get(name)
                ended = time.perf_counter()
            finally:
                self._client.unlink(*names)
        except (self._error, OSError, TypeError) as error:  # None where the server evicted it
            # What a server says before it ends the connection, or that it did.
            if isinstance(error, self._broken) or "Protocol error" in str(error):
                return {}
            raise LMCacheError(f"redis-py: {error}") from None
        return {"redispy_set": stored - started, "redispy_get": ended - stored}

    def server_cpu_s(self) -> float | None:
        """Return the CPU time the server's main thread has had; None where it does not tell."""
        try:
            told = self._client.info("cpu")
        except self._error:
            return None
        names = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        if any(name not in told for name in names):  # before Redis 6.2
            names = ("used_cpu_user", "used_cpu_sys")
        return sum(float(told[name]) for name in names) if names[0] in told else None

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


def server_alone(url: str, payload_bytes: int, password: str = "") -> dict[str, float | None]:
    """Return what redis-benchmark gets; nothing where there is TLS, a socket or a password, and
    for large chunks.

    A password would have to be an argument, which everybody on this machine can read.
    """
    out: dict[str, float | None] = {"benchmark_set_gbps": None, "benchmark_get_gbps": None}
    program, place = shutil.which("redis-benchmark"), urlsplit(url)
    plain = place.scheme.lower() in ("redis", "valkey") and not (place.password or password)
    if not program or not plain or payload_bytes > _LARGEST_BENCHMARK_BYTES:
        return out
    database = place.path.strip("/") or dict(parse_qsl(place.query)).get("db", "0")
    where = ["-h", place.hostname or "127.0.0.1", "-p", str(place.port or 6379)]
    command = [program, *where, "--dbnum", database, "--csv"]
    count = str(max(20, _BENCHMARK_BYTES // payload_bytes))
    try:
        for name in ("set", "get"):
            load = ["-d", str(payload_bytes), "-n", count, "-t", name, "-c", "4"]
            rate = _rate(_output([*command, *load]), name.upper())
            out[f"benchmark_{name}_gbps"] = rate and round(rate * payload_bytes / 1e9, 3)
    finally:
        _output([*command, "-n", "1", "-c", "1", "DEL", _BENCHMARK_KEY])
    return out


def _rate(csv: str, name: str) -> float | None:
    """Return the requests per second of a line of redis-benchmark."""
    rows = [row.split(",") for row in csv.splitlines()]
    return next((float(row[1].strip('"')) for row in rows if row[0] == f'"{name}"'), None)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout
