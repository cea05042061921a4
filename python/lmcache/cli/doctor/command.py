# SPDX-License-Identifier: Apache-2.0
"""The command: run the checks, print them, exit with 1 if one failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lmcache.cli.console import console, print_json
from lmcache.cli.doctor.check import Check
from lmcache.cli.doctor.disk import check_disk
from lmcache.cli.doctor.hardware import check_cpu, check_cuda, check_pool, cuda_driver
from lmcache.cli.doctor.kernel import check_io_uring
from lmcache.cli.doctor.memory import (
    check_huge_pages,
    check_memlock,
    check_memory,
    check_shared_memory,
)
from lmcache.cli.doctor.packages import (
    check_features,
    check_native,
    check_packages,
    vllm_features,
)
from lmcache.config import (
    LMCacheConfig,
    available_memory_bytes,
    capacity_bytes,
    load_config,
    unavailable_line,
)
from lmcache.config.capacity import device_pool_bytes
from lmcache.errors import ConfigError

app = typer.Typer(add_completion=False)

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command(help="Check this machine, and say what to do.")
def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Run every check. Exit status 1 if one failed."""
    checks = list(run_checks())
    failed = any(check.status == "fail" for check in checks)
    if json:
        version, features = vllm_features()
        print_json(
            {
                "ok": not failed,
                "checks": [asdict(check) for check in checks],
                "vllm": {"version": version, "features": features},
            }
        )
    else:
        console().print(_table(checks))
    raise typer.Exit(1 if failed else 0)


def run_checks() -> Iterator[Check]:
    """Yield the outcome of every check, against the configuration of this environment."""
    try:
        config = load_config(log_warnings=False)
        yield _check_configuration(config)
    except ConfigError as error:
        config = LMCacheConfig()
        advice = "correct it; the checks below take the defaults"
        yield Check("configuration", "fail", str(error), advice)
    available_bytes, driver = available_memory_bytes(), cuda_driver()
    wanted_bytes = capacity_bytes(config, available_bytes)
    yield check_native()
    yield check_shared_memory(config.segment_place, wanted_bytes)
    yield check_memory(wanted_bytes, available_bytes)
    yield check_memlock(wanted_bytes, cuda=driver is not None)
    yield check_huge_pages(config.segment_place, wanted_bytes)
    yield check_io_uring()
    yield from check_disk(config)
    yield check_cpu()
    yield check_cuda(driver)
    yield check_pool(device_pool_bytes(config), driver)
    yield check_packages()
    yield check_features(*vllm_features())


def _check_configuration(config: LMCacheConfig) -> Check:
    told = [*config.warnings, unavailable_line(config)]
    if any(told):
        return Check(
            "configuration", "warn", "; ".join(filter(None, told)), "`lmcache config show`"
        )
    changed = sum(source.kind != "default" for source in config.sources.values())
    return Check("configuration", "ok", f"{changed} setting(s) differ from the defaults")


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    for check in checks:
        style = _STYLES[check.status]
        advice = f"\n[bold]->[/] {escape(check.advice)}" if check.advice else ""
        table.add_row(f"[{style}]{check.status}[/]", check.name, escape(check.found) + advice)
    return table
