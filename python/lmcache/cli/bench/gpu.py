# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench gpu`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lmcache import _native
from lmcache.cli.bench.outcome import Row, print_rows
from lmcache.cli.console import print_json
from lmcache.cli.node import JsonOption
from lmcache.errors import UnavailableError

NO_GPU = 3  # the exit status
_ALWAYS = 1 << 40  # from such a size on is never


def gpu(
    json: JsonOption = False,
    device: Annotated[int, typer.Option("--device", min=0, help="Which GPU, as CUDA counts.")] = 0,
) -> None:
    """Copy scattered pieces of each size by copy engine and kernel, against one large copy."""
    try:
        figures = _native.measure_gpu(device)
    except UnavailableError as error:
        print(f"no GPU to measure: {error}", file=sys.stderr)
        raise typer.Exit(NO_GPU) from None
    if json:
        print_json(figures)
    else:
        print_rows(_rows(figures))


def _rows(figures: dict[str, Any]) -> list[Row]:
    version = figures["driver_version"]
    rows = [
        Row("device", figures["device"]),
        Row("driver", f"CUDA {version // 1000}.{version % 1000 // 10}"),
    ]
    for name in ("store", "load", "inside"):
        side = figures[name]
        rows.append(Row(f"{name}, one piece", f"{side['limit_gbps']:.2f} GB/s"))
        rows += [
            Row(
                f"{name}, {rate['entry_bytes'] // 1024} KiB",
                f"{rate['engine_gbps']:.2f} / {rate['kernel_gbps']:.2f} GB/s engine / kernel",
            )
            for rate in side["rates"]
        ]
        chosen = side["engine_from_bytes"]
        rows.append(
            Row(f"{name}, by engine", "never" if chosen > _ALWAYS else f"from {chosen} bytes")
        )
    return rows
