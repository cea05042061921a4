# SPDX-License-Identifier: Apache-2.0
"""The vLLM processes that `lmcache bench vllm` measures, seen from here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmcache.errors import UnavailableError

# One process with everything in it, on CPU: what is measured is the engine, not its IPC. Weights in
# huge pages, so that their place in memory matters less.
_ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}

# 1 GiB takes 2 s where the hypervisor must find it first.
_REST_S = 4.0


# The connector of a vLLM: LMCache's, none at all, or one that does nothing.
Arm = Literal["lmcache", "none", "idle"]


@dataclass(frozen=True)
class Answer:
    """Times in seconds after the request was added."""

    token_times_s: list[float]
    token_ids: list[int]
    prompt_tokens: int
    cached_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return self.token_times_s[0]

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first."""
        return (self.token_times_s[-1] - self.token_times_s[0]) / (len(self.token_times_s) - 1)


@dataclass(frozen=True)
class Batch:
    """Requests that were submitted at once; `wall_s` until all were answered and stored."""

    answers: list[Answer]
    wall_s: float


class VllmProcess:
    """A vLLM engine that answers one request, or several at once. Ends with the `with` block."""

    def __init__(self, options: dict[str, Any], log: Path) -> None:
        reader, writer = os.pipe()
        module = "lmcache.integration.vllm.bench_engine"
        environment = {**os.environ, **_ENVIRONMENT}
        for name in ("VLLM_ENABLE_LMCACHE", "ENABLE_LMCACHE", "LMCACHE_CONFIG_FILE"):
            environment.pop(name, None)
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(options), str(writer)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                env=environment,
                text=True,
            )
        os.close(writer)
        self._answers = os.fdopen(reader)
        self._log = log

    def __enter__(self) -> VllmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Block until the engine is up. Raises UnavailableError when it does not come up."""
        self._read()

    def run(self, prompt: list[int], tokens: int) -> Answer:
        """Run one greedy request of exactly so many output tokens."""
        [answer] = self.run_together([prompt], tokens).answers
        return answer

    def run_together(self, prompts: list[list[int]], tokens: int) -> Batch:
        """Run greedy requests of exactly so many output tokens, submitted at once."""
        done = self._ask({"do": "run", "prompts": prompts, "tokens": tokens})
        answers = [
            Answer(
                token_times_s=answer["token_times_s"],
                token_ids=answer["token_ids"],
                prompt_tokens=answer["prompt_tokens"],
                cached_tokens=answer["cached_tokens"],
            )
            for answer in done["answers"]
        ]
        return Batch(answers, done["wall_s"])

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, with nothing added."""
        ids: list[list[int]] = self._ask({"do": "encode", "texts": texts})["ids"]
        return ids

    def reset(self) -> None:
        """Empty vLLM's own prefix cache, after what is being stored is stored."""
        if not self._ask({"do": "reset"})["emptied"]:
            raise UnavailableError(f"vLLM keeps its prefix cache; its log is {self._log}")

    def rest(self) -> None:
        """Ask nothing for some seconds, as between the start of a server and its requests: LMCache
        gets memory ahead while CPUs are idle.
        """
        time.sleep(_REST_S)

    def switch(self, to: Arm) -> None:
        """Take LMCache out of a vLLM that has it, put in a connector that does nothing, or put
        LMCache back. No request may be under way.
        """
        self._ask({"do": "switch", "to": to})

    def close(self) -> None:
        """End the process and wait for it. Does nothing the second time."""
        if self._answers.closed:
            return
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # said by _read, with the log's name
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise UnavailableError(f"vLLM ended early; its log is {self._log}")
        answer: dict[str, Any] = json.loads(line)
        return answer
