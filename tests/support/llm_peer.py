# SPDX-License-Identifier: Apache-2.0
"""vLLM in another process, asked over its standard input: one JSON object per line, one line of
answer each.

`Peer` is the asking side. It ends the process politely (`close`) or as a crash would (`kill`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from served_llm import Answer, ServedLLM


class Peer:
    """An engine in a process of its own."""

    def __init__(
        self, log: Path, environment: dict[str, str] | None = None, **settings: Any
    ) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **(environment or {})},
            )

    def ask_one(self, prompt: list[int], max_tokens: int = 4) -> Answer:
        """Serve one prompt."""
        got = self._call({"prompt": list(prompt), "max_tokens": max_tokens})
        logprobs = tuple({int(k): v for k, v in position.items()} for position in got["logprobs"])
        return Answer(tuple(got["tokens"]), logprobs, got["cached_tokens"])

    def _call(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError(f"the other process ended:\n{self._log.read_text()[-3000:]}")

    def close(self) -> str:
        """Let it shut down; returns its log."""
        self._process.communicate(timeout=60)
        return self._log.read_text()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    llm = ServedLLM(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        answer = llm.ask_one(command["prompt"], command["max_tokens"])
        print("ANSWER " + json.dumps(vars(answer)), flush=True)
    llm.close()


if __name__ == "__main__":
    main()
