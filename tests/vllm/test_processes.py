# SPDX-License-Identifier: Apache-2.0
"""vLLM as it is deployed: scheduler and workers in processes of their own, two ranks, and `vllm
serve`.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from llm_peer import Peer

PROMPT = [random.Random(13).randrange(3, 2000) for _ in range(700)]
LONGER = [*PROMPT, *range(50, 90)]
IN_PROCESSES = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}


def lmcache_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "LMCache" in line and "WARNING" in line]


@pytest.fixture(scope="module")
def reference(open_llm):
    llm = open_llm()
    answers = {len(prompt): llm.ask_one(prompt) for prompt in (PROMPT, LONGER)}
    llm.close()
    return answers


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "ranks"), [("tensor", 1), ("tensor", 2)])
def test_processes_of_their_own(tiny_model, reference, segment, tmp_path, parallel, ranks):
    settings = {
        "model": str(tiny_model),
        f"{parallel}_parallel_size": ranks,
        "enable_lmcache": True,
        "lmcache_config": {"segment": segment, "max_local_cpu_size": 0.3},
    }
    # vLLM binds one rank to a NUMA node, and most machines have one: bind ranks to cores instead.
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < ranks:
        pytest.skip(f"{ranks} ranks need {ranks} cores")
    bound = {"VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, cores[:ranks]))} if ranks > 1 else {}
    for life in range(2):
        peer = Peer(tmp_path / f"peer{life}.log", {**IN_PROCESSES, **bound}, **settings)
        first = peer.ask_one(PROMPT)
        assert first.differs_from(reference[len(PROMPT)]) == ""
        assert first.cached_tokens == (0 if life == 0 else len(PROMPT) - 1)
        again = peer.ask_one(PROMPT)
        assert again.cached_tokens == len(PROMPT) - 1
        assert again.differs_from(reference[len(PROMPT)]) == ""
        longer = peer.ask_one(LONGER)
        assert longer.cached_tokens == (len(PROMPT) if life == 0 else len(LONGER) - 1)
        assert longer.differs_from(reference[len(LONGER)]) == ""
        assert lmcache_lines(peer.close()) == []


class Server:
    """A plain `vllm serve`."""

    def __init__(self, model: Path, log: Path, environment: dict[str, str], *flags: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [str(Path(sys.executable).parent / "vllm"), "serve", str(model)]
        command += ["--host", "127.0.0.1", "--port", str(self._port), *flags]
        self._log = log
        with log.open("w") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment
            )
        self._wait_until_healthy()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._healthy():
                return
            time.sleep(0.5)
        self.stop()
        raise AssertionError(f"vllm serve did not start:\n{self.log()[-3000:]}")

    def _healthy(self) -> bool:
        try:
            self._call("/health")
        except OSError:
            return False
        return True

    def _call(
        self, path: str, body: dict | None = None, headers: dict[str, str] | None = None
    ) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def complete(self, prompt: list[int], replica: int | None = None) -> tuple[list[int], int]:
        """Return the tokens generated and the prompt tokens that were not computed."""
        headers = {} if replica is None else {"X-data-parallel-rank": str(replica)}
        assert "error" not in self._call("/reset_prefix_cache", {})
        body = {
            "prompt": prompt,
            "max_tokens": 4,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        answer = json.loads(self._call("/v1/completions", body, headers))
        details = answer["usage"]["prompt_tokens_details"] or {}
        return answer["choices"][0]["token_ids"], details.get("cached_tokens") or 0

    def metric(self, name: str) -> float:
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self._call("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


FLAGS = [
    "--enforce-eager",
    "--dtype",
    "float32",
    "--max-model-len",
    "4096",
    "--enable-prompt-tokens-details",
]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_replica_is_warm_from_what_another_one_computed(tiny_model, reference, segment, tmp_path):
    flags = [*FLAGS, "--data-parallel-size", "2", "--enable-lmcache", "--lmcache-config"]
    config = {"segment": f"{segment}-replicas", "max_local_cpu_size": 0.3}
    server = Server(
        tiny_model,
        tmp_path / "server.log",
        {**IN_PROCESSES, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        *flags,
        json.dumps(config),
    )
    try:
        expected = list(reference[len(PROMPT)].tokens)
        assert server.complete(PROMPT, replica=0) == (expected, 0)
        assert server.complete(PROMPT, replica=1) == (expected, len(PROMPT) - 1)
    finally:
        server.stop()
        remove_segment(f"{segment}-replicas")
    assert lmcache_lines(server.log()) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["environment", "flags"])
def test_vllm_serve(tiny_model, reference, segment, tmp_path, way):
    flags = list(FLAGS)
    environment = {
        **IN_PROCESSES,
        "VLLM_SERVER_DEV_MODE": "1",
        "LMCACHE_SEGMENT": f"{segment}-serve-{way}",
        "LMCACHE_MAX_LOCAL_CPU_SIZE": "0.3",
    }
    if way == "environment":
        environment["VLLM_ENABLE_LMCACHE"] = "true"
    else:
        flags += ["--enable-lmcache", "--lmcache-config", '{"chunk_size": 128}']
    server = Server(tiny_model, tmp_path / "server.log", environment, *flags)
    try:
        expected = list(reference[len(PROMPT)].tokens)
        assert server.complete(PROMPT) == (expected, 0)
        assert server.complete(PROMPT) == (expected, len(PROMPT) - 1)
        assert server.metric("vllm:external_prefix_cache_hits_total") == len(PROMPT) - 1
    finally:
        server.stop()
        remove_segment(f"{segment}-serve-{way}")
    assert lmcache_lines(server.log()) == []


def remove_segment(name: str) -> None:
    from lmcache import _native

    Path(_native.segment_path(name)).unlink(missing_ok=True)
