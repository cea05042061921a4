# SPDX-License-Identifier: Apache-2.0
"""`lmcache remote stat`: what a store is, and how many chunks are in it."""

from __future__ import annotations

from rich.markup import escape

from lmcache.cli.console import console, print_json
from lmcache.cli.node import JsonOption, counted, gigabytes
from lmcache.cli.store import UrlOption, open_store


def stat(url: UrlOption = None, json: JsonOption = False) -> None:
    """Show what is at the other end, and count the chunks there."""
    report = open_store(url).stat()
    if json:
        print_json(report)
        return
    limit = f" of {gigabytes(report['limit_bytes'])}" if report["limit_bytes"] else ", no limit"
    out = console()
    role = f", {escape(report['role'])}" if report["role"] else ""
    out.print(f"{escape(report['url'])}: {escape(report['server'])}{role}")
    chunks = counted(report["chunks"], "chunk")
    out.print(f"{chunks}; memory {gigabytes(report['used_bytes'])}{limit}")
    if report["orphans"]:
        out.print(
            f"[yellow]{counted(report['orphans'], 'part')} of large chunks[/] whose first part is "
            "not there: on their way, or left by who was killed; `lmcache remote clear` removes "
            "them with all chunks",
            soft_wrap=True,
        )
