# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm --workload`."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

from lmcache.bench.vllm_conversations import open_conversations
from lmcache.bench.vllm_model import read_model
from lmcache.bench.vllm_reuse import ReuseBench, measure
from lmcache.bench.vllm_workloads import WORKLOADS, Sizes
from lmcache.cli.bench.outcome import Row, print_rows, progress
from lmcache.cli.console import print_json
from lmcache.errors import InvalidArgumentError

# What was promised: how many times sooner the first token comes, and where nothing is reused, what
# time and throughput may be over those of vLLM alone.
LEAST_SPEEDUP = {"multi-round": 8, "rag": 10, "long-doc": 12, "batch": 5}
MOST_TTFT_RATIO = 1.01
LEAST_THROUGHPUT_RATIO = 0.99


def run_workload(
    name: str,
    *,
    model: Path,
    dtype: str,
    prompt_tokens: int | None,
    requests: int | None,
    decode_tokens: int,
    seed: int,
    conversations: Path | None,
    json: bool,
) -> None:
    """Measure a workload and print its figures. None: as the workload has it."""
    workload = WORKLOADS.get(name)
    if workload is None:
        raise InvalidArgumentError(f"--workload {name}: {', '.join(WORKLOADS)} are there")
    if name == "multi-round":  # said now, not after vLLM has started
        open_conversations(conversations).close()
    facts = read_model(model)
    sizes = Sizes(
        context_tokens=prompt_tokens or workload.context_tokens,
        requests=requests or workload.requests,
        answer_tokens=decode_tokens,
        seed=seed,
        conversations=conversations,
    )
    bench = ReuseBench(
        workload=name,
        sizes=sizes,
        model=str(model),
        dtype=dtype,
        segment=f"bench-{uuid.uuid4().hex[:8]}",
        segment_gb=facts.segment_gb(workload.stored_tokens(sizes)),
        log_folder=Path(tempfile.mkdtemp(prefix="lmcache-bench-")),
    )
    with progress() as tell:
        figures = measure(bench, tell)
    if json:
        print_json(figures)
    else:
        print_rows(rows(figures))


def rows(figures: dict[str, Any]) -> list[Row]:
    """Return the table of one workload."""
    lines = [
        Row("requests", f"{figures['requests']}"),
        Row("prompt tokens found", f"{figures['hit_tokens'] / figures['prompt_tokens']:.1%}"),
    ]
    for percent in (50, 95):
        without, with_lmcache = (figures[f"ttft_p{percent}_{arm}"] for arm in ("without", "with"))
        name = "TTFT, median" if percent == 50 else f"TTFT, {percent} %"
        lines.append(Row(f"{name}, vLLM alone", f"{without * 1000:.1f} ms"))
        lines.append(Row(f"{name}, with LMCache", f"{with_lmcache * 1000:.1f} ms"))
    return [*lines, *_verdicts(figures), _sameness(figures["identical"])]


def _verdicts(figures: dict[str, Any]) -> list[Row]:
    least = LEAST_SPEEDUP.get(figures["workload"])
    throughput = figures["throughput_ratio"]
    if least is not None:
        speedup = figures["ttft_speedup"]
        return [
            Row("first token sooner", f"{speedup:.1f} x", f">= {least}", speedup >= least),
            Row("throughput / vLLM alone", f"{throughput:.3f}"),
        ]
    ratio = figures["ttft_ratio"]
    return [
        Row("TTFT / vLLM alone", f"{ratio:.3f}", f"<= {MOST_TTFT_RATIO}", ratio <= MOST_TTFT_RATIO),
        Row(
            "throughput / vLLM alone",
            f"{throughput:.3f}",
            f">= {LEAST_THROUGHPUT_RATIO}",
            throughput >= LEAST_THROUGHPUT_RATIO,
        ),
        Row("TTFT, a connector that does nothing", f"{figures['ttft_ratio_idle']:.3f}"),
        Row("throughput, likewise", f"{figures['throughput_ratio_idle']:.3f}"),
    ]


def _sameness(same: bool) -> Row:
    return Row("answers identical", "yes" if same else "no", "yes", same)
