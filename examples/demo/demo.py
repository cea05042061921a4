# SPDX-License-Identifier: Apache-2.0
"""Three questions about one long document, on a real vLLM with a real model:

    nothing cached      every prompt is computed
    same engine         vLLM's own prefix cache is reset, so the KV comes from LMCache
    new engine process  the KV comes from the segment, which outlived the first engine

and, before all that, on vLLM without LMCache, for the answers that must come out each time. Ends
with status 1 when an answer differs.

    python examples/demo/demo.py [--model FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from picture import draw
from rich.console import Console
from table import Row, print_table, rows_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
QUESTIONS = (
    "How many steps does the spiral stair of the tower have?",
    "What must a keeper do before leaving the watch room?",
    "Which animals are not allowed in the garden, and why?",
)
ANSWER_TOKENS = 24
SEGMENT_GB = 0.6

# name, clear the cache before each question
NATIVE = {"name": "vLLM without LMCache", "clear": False}
COLD = {"name": "nothing cached", "clear": True}
WARM = {"name": "same engine", "clear": False}
RESTART = {"name": "new engine process", "clear": False}

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def main() -> int:
    """Run the demo; return the exit status."""
    arguments = parse_arguments()
    if not (arguments.model / "config.json").exists():
        console.print(f"no model in {arguments.model}: run `make demo`, which fetches it")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that the demo starts cold and meets nobody.
    segment = f"demo-{uuid.uuid4().hex[:8]}"
    console.print(
        f"Three questions about {HERE.name}/document.txt, asked in three ways, and first of all "
        "without LMCache. This takes two to four minutes on two CPU cores."
    )
    answers: list[dict[str, Any]] = []
    try:
        for title, name, ways in (
            ("vLLM without LMCache", "", [NATIVE]),
            ("vLLM with LMCache", segment, [COLD, WARM]),
            ("a new vLLM process with LMCache", segment, [RESTART]),
        ):
            answers += run_engine(title, name, ways, arguments)
    except EngineFailedError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    finally:
        remove(segment)
    rows = rows_of(answers, [COLD["name"], WARM["name"], RESTART["name"]], NATIVE["name"])
    print_table(console, rows)
    print_answers(answers)
    picture = arguments.out / "ttft.png"
    draw(rows, picture)
    console.print(f"picture: {shown(picture)}")
    return verdict(rows)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "build" / "models" / "smollm2-135m")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo")
    return parser.parse_args()


class EngineFailedError(Exception):
    """A vLLM process ended before it had answered."""


def run_engine(
    title: str, segment: str, ways: list[dict[str, Any]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run one vLLM process and return its answers; prints each as it comes."""
    log = arguments.out / f"{'-'.join(way['name'] for way in ways).replace(' ', '_')}.log"
    job = {
        "model": str(arguments.model),
        "segment": segment,
        "lmcache_config": {"segment": segment, "max_local_cpu_size": SEGMENT_GB},
        "document": (HERE / "document.txt").read_text(encoding="utf-8"),
        "questions": QUESTIONS,
        "answer_tokens": ANSWER_TOKENS,
        "ways": ways,
    }
    answers = []
    with console.status(f"{title}: starting (20 to 40 s)"):
        for event in events_of(job, log):
            if event["event"] == "ready":
                console.print(f"[bold]{title}[/bold] is ready")
                continue
            answers.append(event)
            console.print(
                f"  {event['way']}, question {event['question'] + 1}: first token after "
                f"{event['ttft_s'] * 1000:.0f} ms, {event['reused_tokens']} of "
                f"{event['prompt_tokens']} prompt tokens reused"
            )
    if len(answers) != len(ways) * len(QUESTIONS):
        raise EngineFailedError(f"{title} ended early; its log is {shown(log)}")
    return answers


def events_of(job: dict[str, Any], log: Path) -> Iterator[dict[str, Any]]:
    """Start a vLLM process on a job and yield what it reports."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_NO_USAGE_STATS": "1",
    }
    for name in ("VLLM_ENABLE_LMCACHE", "ENABLE_LMCACHE", "LMCACHE_CONFIG_FILE"):
        environment.pop(name, None)
    reader, writer = os.pipe()
    with log.open("w") as output:
        # The job says which descriptor is 3 over there.
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$0" "$@" 3>&{writer}',
                sys.executable,
                str(HERE / "ask.py"),
                json.dumps(job),
            ],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(writer,),
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            for line in lines:
                yield json.loads(line)
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def remove(segment: str) -> None:
    """Remove the demo's segment."""
    from lmcache import _native
    from lmcache.errors import LMCacheError

    with contextlib.suppress(LMCacheError):  # no engine may have got as far as to make it
        _native.remove_segment(_native.segment_path(segment))


def print_answers(answers: list[dict[str, Any]]) -> None:
    """Print what the model said, once per question."""
    for number, question in enumerate(QUESTIONS):
        console.print(f"[bold]{question}[/bold]")
        texts = {a["text"] for a in answers if a["question"] == number}
        for text in sorted(texts):
            console.print(f"  {text}", markup=False)


def verdict(rows: list[Row]) -> int:
    """Return the exit status, and say why it is not 0."""
    differing = [row.way for row in rows if not row.equal]
    if differing:
        console.print(
            f"[red]answers differ from vLLM without LMCache: {', '.join(differing)}[/red]"
        )
        return 1
    idle = [row.way for row in rows[1:] if row.reused_tokens == 0]
    if idle:
        console.print(f"[red]nothing was reused: {', '.join(idle)}[/red]")
        return 1
    return 0


def shown(path: Path) -> str:
    """Return a path as short as it can be typed here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
