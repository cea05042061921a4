# SPDX-License-Identifier: Apache-2.0
"""Explanations for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lmcache.cli.explain.prompts import PromptIn
from lmcache.cli.explain.reasons import CODES, Reason
from lmcache.cli.explain.requests import Explained
from lmcache.cli.explain.spaces import tell_differences
from lmcache.cli.node import ago, amount, percent

_GOOD = ("whole", "engine_had_it")


def render_latest(explained: Sequence[Explained], together: Mapping[str, Any]) -> RenderableType:
    """Return the table of the latest requests, and what their misses have in common."""
    table = _headed(
        ("request", "ago", "tokens", "vLLM had", "loaded", "computed", "why"), right=(1, 2, 3, 4, 5)
    )
    for one in reversed(explained):
        trace = one.trace
        table.add_row(
            escape(trace["request_id"]),
            ago(time.time() - trace["unix_s"]),
            str(trace["prompt_tokens"]),
            str(trace["computed_tokens"]),
            str(trace["loaded_tokens"]),
            str(_computed(trace)),
            f"[{_style(one.reason)}]{one.reason.code}[/] {escape(_brief(one.reason))}",
        )
    return Group(table, _together(together))


def render_request(explained: Sequence[Explained]) -> RenderableType:
    """Return all that is known of one request."""
    parts: list[RenderableType] = []
    for one in explained:
        trace = one.trace
        table = _facts()
        when = ago(time.time() - trace["unix_s"])
        again = f", after {trace['preemptions']} preemption(s)" if trace["preemptions"] else ""
        table.add_row("request", f"[bold]{escape(trace['request_id'])}[/], {when} ago{again}")
        table.add_row("process", str(trace["pid"]))
        if one.space is not None:
            table.add_row("namespace", f"{one.space.id}: {escape(one.space.title())}")
        table.add_row("prompt", _shares(trace))
        if trace["wait_us"]:
            waited = f"{trace['wait_us'] / 1000:.0f} ms for a lower tier"
            table.add_row(
                "waited", f"{waited}: {trace['memory_tokens']} tokens were in memory before"
            )
        _add_reason(table, one.reason)
        parts.append(table)
    return Group(*parts)


def render_prompt(found: Sequence[PromptIn]) -> RenderableType:
    """Return how far a prompt is there, first in the namespace that was asked."""
    asked, others = found[0], found[1:]
    table = _facts()
    table.add_row("namespace", f"{asked.space.id}: {escape(asked.space.title())}")
    share = percent(asked.found_tokens, asked.tokens)
    table.add_row("in memory", f"[bold]{asked.found_tokens}[/] of {asked.tokens} tokens ({share})")
    _add_reason(table, asked.reason)
    more = _headed(("other namespace", "found", "differs in"), right=(1,))
    for one in others:
        style = "bold" if one.found_tokens > asked.found_tokens else "none"
        more.add_row(
            f"{one.space.id}: {escape(one.space.title())}",
            f"[{style}]{one.found_tokens}[/]",
            escape(tell_differences(one.differs_in)),
        )
    return Group(table, more) if others else table


def _together(together: Mapping[str, Any]) -> RenderableType:
    table = _headed(("why", "requests", "tokens lost", ""), right=(1, 2))
    for reason in together["reasons"]:
        if reason["lost_tokens"]:
            table.add_row(
                CODES.get(reason["code"], reason["code"]),
                amount(reason["requests"]),
                amount(reason["lost_tokens"]),
                f"[dim]{reason['code']}[/]",
            )
    loaded, asked = together["loaded_tokens"], together["asked_tokens"]
    line = f"\n [bold]{percent(loaded, asked)}[/] of {amount(asked)} tokens that vLLM did not have "
    line += f"came from the cache, in {together['requests']} requests"
    return Group(line, table) if table.row_count else line


def _shares(trace: Mapping[str, Any]) -> str:
    return (
        f"{trace['prompt_tokens']} tokens: {trace['computed_tokens']} vLLM had itself, "
        f"[bold]{trace['loaded_tokens']}[/] came from the cache, {_computed(trace)} were computed"
    )


def _computed(trace: Mapping[str, Any]) -> int:
    have = int(trace["computed_tokens"]) + int(trace["loaded_tokens"])
    return max(0, int(trace["prompt_tokens"]) - have)


def _add_reason(table: Table, reason: Reason) -> None:
    table.add_row("why", f"[{_style(reason)}]{escape(reason.text)}[/] [dim]({reason.code})[/]")
    if reason.advice.strip():
        table.add_row("what helps", escape(reason.advice))


def _style(reason: Reason) -> str:
    return "green" if reason.code in _GOOD else "yellow"


def _brief(reason: Reason) -> str:
    return "" if reason.code in _GOOD else reason.text


def _facts() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    return table


def _headed(headings: tuple[str, ...], right: tuple[int, ...]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for at, heading in enumerate(headings):
        justify: Any = "right" if at in right else "left"
        table.add_column(heading, header_style="dim", justify=justify, overflow="fold")
    return table
