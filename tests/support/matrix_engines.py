# SPDX-License-Identifier: Apache-2.0
"""The engines of the matrix: one runs at a time, as long as rows in a row need the same one."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from front_doors import through
from matrix_schedules import CHUNK, WORK, ask_again
from matrix_table import ENGINES, MODELS, Row
from redis_server import RedisServer, connected, until
from served_llm import Answer, ServedLLM

ROOT = Path(__file__).resolve().parents[2]
MODELS_FOLDER = ROOT / "build" / "models"
Answers = tuple[list[Answer], list[Answer]]


def model_folder(arch: str) -> Path:
    """Return the folder of a tiny model; it is made if it is missing or of an old recipe."""
    script = ROOT / "scripts" / "make_tiny_model.py"
    command = [sys.executable, str(script), str(MODELS_FOLDER), "--each", arch]
    subprocess.run(command, check=True, capture_output=True)
    return MODELS_FOLDER / f"tiny-{arch}"


def engine_settings(row: Row) -> dict[str, Any]:
    """Return what vLLM is started with for a row, but for the cache."""
    model = MODELS[row.model]
    settings = {
        "model": str(model_folder(model.arch)),
        "block_size": 32,
        "max_num_seqs": 16,
        "max_num_batched_tokens": model.step_tokens,
        **model.settings,
        **ENGINES[row.engine],
    }
    widest = settings["max_num_batched_tokens"]
    settings["max_num_batched_tokens"] = min(widest, model.step_tokens)
    return settings


class Lines(logging.Handler):
    """The lines of the cache in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@dataclass
class Running:
    """A cached engine, and what it said when it started."""

    llm: ServedLLM
    said: list[str]
    preempted: list[str]

    def status(self) -> dict[str, Any]:
        """Return the state of its segment."""
        return dict(self.llm.worker._attachment.engine.status())

    def settle(self) -> None:
        """Let it finish, and write what it stored to the tiers below."""
        self.llm.settle()
        assert self.llm.worker._attachment.engine.drain(60_000)


class MatrixEngines:
    """Starts engines, and knows what vLLM without a cache answers."""

    def __init__(
        self, rows: list[Row], open_llm: Callable[..., ServedLLM], setenv: Callable[..., None]
    ) -> None:
        """Serve these rows."""
        self._rows = rows
        self._open_llm = open_llm
        self._setenv = setenv
        self._references: dict[tuple[str, str], dict[str, Answers]] = {}
        self._running: Running | None = None
        self._running_for: tuple[str, ...] = ()
        self._folder = tempfile.TemporaryDirectory(prefix="lmcache-matrix-")
        self._server: RedisServer | None = None
        self._starts = 0

    def close(self) -> None:
        """End the server and remove what was stored."""
        self._folder.cleanup()
        if self._server is not None:
            self._server.remove()

    def reference(self, row: Row) -> Answers:
        """Return the answers of vLLM without a cache, first and again; all of an engine's at
        once.
        """
        key = (row.model, row.engine)
        if key not in self._references:
            self._running_for = ()
            llm = self._start(engine_settings(row))
            schedules = {
                other.schedule for other in self._rows if (other.model, other.engine) == key
            }
            self._references[key] = {
                name: (WORK[name].ask(llm), ask_again(WORK[name], llm)) for name in schedules
            }
        return self._references[key][row.schedule]

    def cached(self, row: Row) -> Running:
        """Return an engine with the cache: the one of the row before, if it will do."""
        key = (row.model, row.engine, row.tier, row.door)
        if self._running_for != key or self._running is None:
            self._starts += 1
            self._running = self._start_cached(row)
            self._running_for = key
        return self._running

    def restarted(self, row: Row) -> Running:
        """Return an engine with memory of its own that finds what the last one left below."""
        self._running = self._start_cached(row)
        return self._running

    def _start_cached(self, row: Row) -> Running:
        settings, environment = through(row.door, self._config(row))
        for name, value in environment.items():
            self._setenv(name, value)
        lines, log = Lines(), logging.getLogger("vllm.lmcache")
        log.addHandler(lines)
        try:
            llm = self._start(engine_settings(row) | settings)
        finally:
            log.removeHandler(lines)
        if row.tier == "remote" and not row.refused:
            until(lambda: connected(llm.worker._attachment.engine))
        return Running(llm, lines.texts, count_preemptions(llm))

    def _config(self, row: Row) -> dict[str, Any]:
        config: dict[str, Any] = {
            "chunk_size": CHUNK,
            "segment": "private",
            "max_local_cpu_size": 0.2,
            "load_policy": "always",  # the speed of a busy machine decides nothing here
        }
        if row.tier == "disk":
            folder = Path(self._folder.name) / str(self._starts)
            config |= {"local_disk": str(folder), "max_local_disk_size": 1}
        if row.tier == "remote":
            if self._server is None:
                self._server = RedisServer()
            config["remote_url"] = self._server.url
        return config

    def _start(self, settings: dict[str, Any]) -> ServedLLM:
        # vLLM looks into every module when a worker starts, and trips over this one, which its
        # n-gram proposer brings in.
        sys.modules.pop("llvmlite.binding.ffi", None)
        llm = self._open_llm(**settings)
        sys.modules.pop("llvmlite.binding.ffi", None)
        return llm


def count_preemptions(llm: ServedLLM) -> list[str]:
    """Return a list that grows with every request vLLM preempts from now on."""
    scheduler = llm.core.scheduler
    seen: list[str] = []
    original = scheduler._preempt_request

    def preempt(request: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(request.request_id)
        return original(request, *arguments, **options)

    scheduler._preempt_request = preempt
    return seen
