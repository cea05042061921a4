# SPDX-License-Identifier: Apache-2.0
"""What the demo found, as a table."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from lmcache.bench.vllm_process import Answer


@dataclass(frozen=True)
class Asked:
    """One question, asked in one way."""

    way: str
    question: int
    answer: Answer


@dataclass(frozen=True)
class Row:
    """One way of asking; lists have one value per question."""

    way: str
    ttft_s: list[float]
    speed_up: list[float]  # against nothing cached
    reused_tokens: int
    prompt_tokens: int
    equal: bool  # all answers are those of vLLM without LMCache

    @property
    def hit_rate(self) -> float:
        """Tokens reused over tokens asked for."""
        return self.reused_tokens / self.prompt_tokens


def rows_of(asked: list[Asked], ways: list[str], reference: str) -> list[Row]:
    """Return a row per way; the first way is what the others are compared with in speed."""
    by_way = {way: [a.answer for a in asked if a.way == way] for way in (reference, *ways)}
    right = [answer.token_ids for answer in by_way[reference]]
    cold = [answer.ttft_s for answer in by_way[ways[0]]]
    return [
        Row(
            way=way,
            ttft_s=[answer.ttft_s for answer in by_way[way]],
            speed_up=[base / a.ttft_s for base, a in zip(cold, by_way[way], strict=True)],
            reused_tokens=sum(answer.cached_tokens for answer in by_way[way]),
            prompt_tokens=sum(answer.prompt_tokens for answer in by_way[way]),
            equal=[answer.token_ids for answer in by_way[way]] == right,
        )
        for way in ways
    ]


def print_table(console: Console, rows: list[Row]) -> None:
    """Print the rows, one column per question for the times."""
    table = Table(title="Time to first token")
    table.add_column("way")
    for number in range(len(rows[0].ttft_s)):
        table.add_column(f"TTFT Q{number + 1}", justify="right")
    for heading in ("speed-up", "reused", "hit rate", "answers"):
        table.add_column(heading, justify="right")
    for row in rows:
        mean = sum(rows[0].ttft_s) / sum(row.ttft_s)
        table.add_row(
            row.way,
            *(f"{seconds:.3f} s" for seconds in row.ttft_s),
            f"{mean:.1f} x",
            f"{row.reused_tokens}/{row.prompt_tokens} tokens",
            f"{row.hit_rate:.1%}",
            "equal" if row.equal else "[red]DIFFERENT[/red]",
        )
    console.print(table)
