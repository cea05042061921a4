# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote ping`: whether a store answers, and how fast."""

from __future__ import annotations

import statistics
from typing import Annotated

import typer
from rich.markup import escape

from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption
from lmcache.cli.store import UrlOption, open_store


def ping(
    url: UrlOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Round trips.")] = 10,
    json: JsonOption = False,
) -> None:
    """Connect, log in and measure round trips."""
    store = open_store(url)
    name = store.name
    times = [store.ping() / 1000 for _ in range(count)]
    report = {"url": name, "count": count, "min_us": min(times), "p50_us": statistics.median(times)}
    if json:
        print_json(report)
        return
    console().print(
        f"{escape(name)} answers: {report['p50_us']:.0f} us, {report['min_us']:.0f} us at best",
        soft_wrap=True,
    )
