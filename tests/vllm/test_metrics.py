# SPDX-License-Identifier: Apache-2.0
"""`vllm serve` over HTTP: its `/metrics` and its log after requests whose hits are known."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

TOKENS, CHUNK = 300, 128
MODULE = "lmcache.integration.vllm.connector"
STARTS_WITHIN_S = 240


class Server:
    """A vLLM of its own processes, on a port of this machine that nobody else is told."""

    def __init__(self, model: Path, folder: Path, extra: dict[str, Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        transfer = {
            "kv_connector": "LMCacheConnector",
            "kv_connector_module_path": MODULE,
            "kv_role": "kv_both",
            "kv_connector_extra_config": extra,
        }
        environment = {
            **os.environ,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
            "VLLM_LOGGING_LEVEL": "INFO",
            "VLLM_LOG_STATS_INTERVAL": "1",
            "VLLM_SERVER_DEV_MODE": "1",
        }
        flags = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny"]
        flags += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"]
        flags += ["--kv-transfer-config", json.dumps(transfer)]
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), *flags]
        self.log = folder / "serve.log"
        with self.log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.get("/health")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start:\n{self.log.read_text()[-4000:]}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: dict[str, Any]) -> str:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def ask(self, prompt: list[int]) -> None:
        """Serve one prompt; vLLM's own cache is emptied first."""
        self.post("/reset_prefix_cache", {})
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0}
        self.post("/v1/completions", {**body, "ignore_eos": True})

    def metrics(self) -> dict[str, float]:
        """Return every sample; labels other than vLLM's own are part of the name."""
        out: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics")):
            for sample in family.samples:
                labels = {
                    k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")
                }
                text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
                out[sample.name + (f"{{{text}}}" if text else "")] = sample.value
        return out

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        except ProcessLookupError:
            pass


@pytest.fixture(scope="module")
def server(tiny_model, segment, tmp_path_factory) -> Iterator[Server]:
    extra = {
        "lmcache.segment": segment,
        "lmcache.chunk_size": CHUNK,
        "lmcache.max_local_cpu_size": 0.1,
    }
    server = Server(tiny_model, tmp_path_factory.mktemp("serve"), extra)
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def before(server) -> dict[str, float]:
    """What `/metrics` says of an engine that nobody has asked anything."""
    return server.metrics()


@pytest.fixture(scope="module")
def after(server, before) -> dict[str, float]:
    """The same after a miss and a hit of one prompt."""
    assert before
    for _ in range(2):
        server.ask([7 + i * 11 % 1900 for i in range(TOKENS)])
    wanted = "lmcache:loaded_tokens_total"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not server.metrics().get(wanted):
        time.sleep(0.2)
    return server.metrics()


def test_every_name_of_the_manual_that_counts_is_there_from_the_start(before):
    from lmcache.integration.vllm.metric_names import exposed

    names = {name.split("{")[0] for name in before}
    for series in exposed():
        if series.kind == "counter":
            assert f"{series.name}_total" in names
        elif series.kind == "histogram":
            assert f"{series.name}_count" in names
    assert all(
        value == 0
        for name, value in before.items()
        if name.startswith("lmcache") and "_created" not in name
    )


# Of two questions about 300 tokens the second takes all that may be taken: one is left to compute.
TAKEN = TOKENS - 1
EXPECTED = {
    "lmcache:lookups_total": 2,
    "lmcache:num_lookup_requests_total": 2,
    "lmcache_mp_lookups_total": 2,
    "lmcache:lookup_tokens_total": 2 * TAKEN,
    "lmcache:num_lookup_tokens_total": 2 * TAKEN,
    "lmcache_mp_lookup_requested_total": 2 * TAKEN,
    "lmcache:hit_tokens_total": TAKEN,
    "lmcache:num_lookup_hits_total": TAKEN,
    "lmcache_mp_lookup_hit_total": TAKEN,
    "lmcache_mp_lookup_hit_l1_total": TAKEN,
    "lmcache:hit_tokens_by_tier_total{tier=dram}": TAKEN,
    "lmcache:hit_tokens_by_tier_total{tier=disk}": 0,
    "lmcache:hit_tokens_by_tier_total{tier=remote}": 0,
    "lmcache:hit_requests_total": 1,
    "lmcache:num_retrieve_requests_total": 1,
    "lmcache:prompt_tokens_total": 2 * TOKENS,
    "lmcache:engine_hit_tokens_total": 0,
    "lmcache:loads_total": 1,
    "lmcache:loaded_tokens_total": TAKEN,
    "lmcache:num_hit_tokens_total": TAKEN,
    "lmcache:load_time_seconds_count": 1,
    "lmcache:time_to_retrieve_count": 1,
    "lmcache:request_hit_rate_sum": 1,
    "lmcache:request_hit_rate_count": 2,
    "lmcache:stored_chunks_total": 3,  # the last one is not full
    "lmcache:stored_tokens_total": TOKENS,
    "lmcache:num_stored_tokens_total": TOKENS,
    "lmcache:dram_chunks": 3,
    "lmcache:local_cpu_hot_cache_count": 3,
    "lmcache:healthy": 1,
    "lmcache:lmcache_is_healthy": 1,
    "lmcache:lookup_hit_rate": 0.5,
    "lmcache:retrieve_hit_rate": 1,
    "lmcache:evicted_chunks_total": 0,
    "lmcache:dropped_chunks_total{reason=no_space}": 0,
    "lmcache:failed_blocks_total": 0,
    # vLLM's own words for it.
    "vllm:external_prefix_cache_hits_total": TAKEN,
    "vllm:prompt_tokens_cached_by_source_total{source=host}": TAKEN,
    "vllm:prompt_tokens_cached_by_source_total{source=disk}": 0,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_two_requests_are_counted(after, name):
    assert after.get(name, 0) == EXPECTED[name]


def test_bytes_and_seconds_belong_together(after):
    per_token = after["lmcache:stored_bytes_total"] / (3 * CHUNK)
    assert per_token == int(per_token) > 0
    blocks = -(-TAKEN // CHUNK)
    assert after["lmcache:loaded_bytes_total"] == per_token * blocks * CHUNK
    for name in ("load_seconds_total", "store_seconds_total", "lookup_seconds_total"):
        assert 0 < after[f"lmcache:{name}"] < 5
    used = after["lmcache:dram_used_bytes"]
    assert after["lmcache:stored_bytes_total"] <= used <= after["lmcache:dram_capacity_bytes"]
    assert after["lmcache:local_cache_usage"] == after["lmcache_mp_l1_memory_usage_bytes"] == used
    assert after["lmcache:retrieve_speed_sum"] > 0


def test_the_log_says_it_too(server, after):
    assert after
    deadline = time.monotonic() + 20
    line = None
    while line is None and time.monotonic() < deadline:
        text = server.log.read_text(encoding="utf-8")
        line = re.search(r"KV Transfer metrics: .*hit tokens=299.*", text)
        time.sleep(0.2)
    assert line is not None
    assert "hit rate=" in line.group()
    assert "loaded MB=" in line.group()
