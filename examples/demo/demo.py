# SPDX-License-Identifier: Apache-2.0
"""Three questions about one long document, on a real vLLM with a real model:

    nothing cached      every prompt is computed
    same engine         vLLM's own prefix cache is reset, so the KV comes from LMCache
    new engine process  the KV comes from the segment, which outlived the first engine
    memory gone         the segment was removed too, as by a reboot: the KV comes from disk
    another node        with nothing of its own: the KV comes from a Redis that both use

and, before all that, on vLLM without LMCache, for the answers that must come out each time. Ends
with status 1 when an answer differs.

    python examples/demo/demo.py [--model FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from picture import draw
from rich.console import Console
from server import RedisServer
from table import Asked, Row, print_table, rows_of

from lmcache import _native
from lmcache.bench.vllm_process import VllmProcess
from lmcache.errors import LMCacheError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
QUESTIONS = (
    "How many steps does the spiral stair of the tower have?",
    "What must a keeper do before leaving the watch room?",
    "Which animals are not allowed in the garden, and why?",
)
ANSWER_TOKENS = 24
SEGMENT_GB = 0.6
DISK_GB = 2


@dataclass(frozen=True)
class Way:
    """A way of asking; `clears` empties the cache before each question."""

    name: str
    clears: bool = False


NATIVE = Way("vLLM without LMCache")
COLD = Way("nothing cached", clears=True)
WARM = Way("same engine")
RESTART = Way("new engine process")
DISK = Way("memory gone, from disk")
OTHER = Way("another node, Redis")

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
        f"Three questions about {HERE.name}/document.txt, asked in five ways, and first of all "
        "without LMCache. This takes four to six minutes on two CPU cores."
    )
    disk = arguments.out / "disk"
    shutil.rmtree(disk, ignore_errors=True)
    server = RedisServer()
    store = Store(segment, disk, server)
    asked: list[Asked] = []
    try:
        conversation = Conversation(arguments.model)
        with server:
            engines: list[tuple[str, Store | OtherNode | None, list[Way]]] = [
                ("vLLM without LMCache", None, [NATIVE]),
                ("vLLM with LMCache", store, [COLD, WARM]),
                ("a new vLLM process with LMCache", store, [RESTART]),
                ("another one, its memory lost", store, [DISK]),
            ]
            if server.url:
                engines.append(("one as on another node", OtherNode(server), [OTHER]))
            else:
                console.print("no redis-server is installed: nothing is shown of another node")
            for title, used, ways in engines:
                if ways == [DISK]:
                    store.lose_memory()
                asked += run_engine(title, used, ways, conversation.prompts, arguments)
    except LMCacheError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    finally:
        store.lose_memory()
        shutil.rmtree(disk, ignore_errors=True)
    rows = rows_of(
        asked, list(dict.fromkeys(a.way for a in asked if a.way != NATIVE.name)), NATIVE.name
    )
    print_table(console, rows)
    print_answers(asked, conversation)
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


class Conversation:
    """The questions as prompts, in the model's chat template, and answers as text."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(model)
        document = (HERE / "document.txt").read_text(encoding="utf-8")
        self.prompts = [self._prompt(document, question) for question in QUESTIONS]

    def _prompt(self, document: str, question: str) -> list[int]:
        text = f"{document}\n\nQuestion: {question} Answer in one sentence."
        messages = [{"role": "user", "content": text}]
        return list(
            self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
        )

    def text(self, token_ids: list[int]) -> str:
        """Return an answer up to its end, or as far as it went."""
        end = self._tokenizer.eos_token_id
        if end in token_ids:
            token_ids = token_ids[: token_ids.index(end)]
        return str(self._tokenizer.decode(token_ids)).strip()


@dataclass(frozen=True)
class Store:
    """Where the demo's engines keep KV."""

    segment: str
    disk: Path
    server: RedisServer

    @property
    def config(self) -> dict[str, object]:
        """With the model, this is all that a user tells vLLM."""
        return {
            "segment": self.segment,
            "max_local_cpu_size": SEGMENT_GB,
            "local_disk": str(self.disk),
            "max_local_disk_size": DISK_GB,
            "remote_url": self.server.url or None,
        }

    def clear(self) -> None:
        """Forget everything, in memory, on disk and in Redis."""
        _native.clear_segment(_native.segment_path(self.segment))
        _native.DiskVolume.open([str(self.disk)], lambda *_: None).clear()
        self.server.clear()

    def lose_memory(self) -> None:
        """Remove the segment, as a reboot does."""
        with contextlib.suppress(LMCacheError):  # no engine may have got as far as to make it
            _native.remove_segment(_native.segment_path(self.segment))


@dataclass(frozen=True)
class OtherNode:
    """A node that has seen no prompt yet."""

    server: RedisServer

    @property
    def config(self) -> dict[str, object]:
        """What it shares with others is the store."""
        return {
            "segment": "private",
            "max_local_cpu_size": SEGMENT_GB,
            "remote_url": self.server.url,
        }

    def clear(self) -> None:
        """Nothing: it begins empty."""


def run_engine(
    title: str,
    store: Store | OtherNode | None,
    ways: list[Way],
    prompts: list[list[int]],
    arguments: argparse.Namespace,
) -> list[Asked]:
    """Run one vLLM process and return its answers; prints each as it comes."""
    log = arguments.out / f"{title.replace(',', '').replace(' ', '_')}.log"
    options = {
        "model": str(arguments.model),
        "dtype": "float32",
        "max_model_len": 4096,
        "lmcache_config": store.config if store else None,
    }
    asked = []
    with console.status(f"{title}: starting (20 to 40 s)"), VllmProcess(options, log) as engine:
        engine.wait_ready()
        engine.run(list(range(100, 140)), 4)  # the first steps of a process are slow
        console.print(f"[bold]{title}[/bold] is ready")
        for way in ways:
            for number, prompt in enumerate(prompts):
                if way.clears and store:
                    store.clear()
                engine.reset()  # what is reused does not come from vLLM's own cache
                answer = engine.run(prompt, ANSWER_TOKENS)
                asked.append(Asked(way.name, number, answer))
                console.print(
                    f"  {way.name}, question {number + 1}: first token after "
                    f"{answer.ttft_s * 1000:.0f} ms, {answer.cached_tokens} of "
                    f"{answer.prompt_tokens} prompt tokens reused"
                )
                time.sleep(0.3)  # stores end behind the step loop; the next question may want them
    return asked


def print_answers(asked: list[Asked], conversation: Conversation) -> None:
    """Print what the model said, once per question."""
    for number, question in enumerate(QUESTIONS):
        console.print(f"[bold]{question}[/bold]")
        given = {conversation.text(a.answer.token_ids) for a in asked if a.question == number}
        for text in sorted(given):
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
