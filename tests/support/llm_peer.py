# SPDX-License-Identifier: Apache-2.0
"""vLLM in another process, asked over its standard input: one JSON object per line, one line of
answer each over a pipe of its own, since vLLM logs to both standard outputs.

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
        reading, writing = os.pipe()
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(writing), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[writing],
                env={**os.environ, **(environment or {})},
            )
        os.close(writing)
        self._answers = os.fdopen(reading)

    def ask_one(self, prompt: list[int], max_tokens: int = 4) -> Answer:
        """Serve one prompt."""
        got = self._call({"prompt": list(prompt), "max_tokens": max_tokens})
        logprobs = tuple({int(k): v for k, v in position.items()} for position in got["logprobs"])
        return Answer(tuple(got["tokens"]), logprobs, got["cached_tokens"])

    def _call(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._answers.readline()
        if not line:
            raise AssertionError(f"the other process ended:\n{self._log.read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> str:
        """Let it shut down; returns its log."""
        self._process.communicate(timeout=120)
        self._answers.close()
        return self._log.read_text()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()
        self._answers.close()


def main() -> None:
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        os.set_inheritable(
            answers.fileno(), False
        )  # the end of this process is the end of the pipe
        llm = ServedLLM(**json.loads(sys.argv[2]))
        for line in sys.stdin:
            command = json.loads(line)
            answer = llm.ask_one(command["prompt"], command["max_tokens"])
            print(json.dumps(vars(answer)), file=answers, flush=True)
        llm.close()


if __name__ == "__main__":
    main()
