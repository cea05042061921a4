# SPDX-License-Identifier: Apache-2.0
"""What the cache saves in a workload: time to first token and throughput, with it and without.

Both are measured in one vLLM process, request by request in turns, with LMCache switched in and
out (see `vllm_figures` for why); who is first changes each time. vLLM's own prefix cache is on in
both, and is emptied before every request, or before every batch of them. Where nothing is reused,
a third vLLM has a connector that does nothing: what vLLM takes for calling any.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmcache.bench.vllm_figures import remove_segment
from lmcache.bench.vllm_process import Answer, Arm, Batch, VllmProcess
from lmcache.bench.vllm_workloads import WORKLOADS, Ask, Sizes
from lmcache.errors import UnavailableError


@dataclass(frozen=True)
class ReuseBench:
    """What to measure. The model's context must hold `sizes.longest_tokens`."""

    workload: str
    sizes: Sizes
    model: str
    dtype: str
    segment: str
    segment_gb: float
    log_folder: Path


@dataclass
class Taken:
    """Batches measured with and without LMCache, in the same order; mostly of one request.

    `idle`: with a connector that does nothing; empty where that is not measured.
    """

    without: list[Batch] = field(default_factory=list)
    with_lmcache: list[Batch] = field(default_factory=list)
    idle: list[Batch] = field(default_factory=list)


def measure(bench: ReuseBench, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the workload and return the keys of `lmcache bench vllm --workload W --json`. Takes
    minutes.
    """
    options = {
        "model": bench.model,
        "dtype": bench.dtype,
        "max_model_len": bench.sizes.longest_tokens,
        "lmcache_config": {"segment": bench.segment, "max_local_cpu_size": bench.segment_gb},
    }
    taken = Taken()
    with ExitStack() as stack:
        stack.callback(remove_segment, bench.segment)
        say("starting vLLM with LMCache")
        engine = stack.enter_context(
            VllmProcess(options, bench.log_folder / f"{bench.workload}.log")
        )
        engine.wait_ready()
        _warm_up(engine, bench)
        _play(engine, bench, taken, say)
    check(bench.workload, taken)
    return {"workload": bench.workload, **figures(taken)}


def _warm_up(engine: VllmProcess, bench: ReuseBench) -> None:
    """Run what is slow only once: a prompt of full length, and with LMCache its hit."""
    prompt = [10 + position % 7 for position in range(bench.sizes.context_tokens)]
    arms: tuple[Arm, ...] = ("none", "lmcache", "lmcache")
    for arm in arms:
        _run(engine, arm, [prompt], 4)
    engine.rest()


def _play(engine: VllmProcess, bench: ReuseBench, taken: Taken, say: Callable[[str], None]) -> None:
    play = WORKLOADS[bench.workload].play(bench.sizes, engine.encode)
    ask = next(play, None)
    while ask is not None:
        batch = _take(engine, bench, ask, taken)
        if ask.measured:
            say(f"{bench.workload}: {_line(taken)}")
        try:
            ask = play.send([answer.token_ids for answer in batch.answers])
        except StopIteration:
            ask = None


def _take(engine: VllmProcess, bench: ReuseBench, ask: Ask, taken: Taken) -> Batch:
    """Answer what was asked: in each way if it is measured, else with LMCache alone."""
    tokens = bench.sizes.answer_tokens
    if not ask.measured:
        return _run(engine, "lmcache", ask.prompts, tokens)
    arms: dict[Arm, list[Batch]] = {"none": taken.without, "lmcache": taken.with_lmcache}
    if bench.workload == "no-reuse":
        arms["idle"] = taken.idle
    orders = list(itertools.permutations(arms))
    for arm in orders[len(taken.without) % len(orders)]:
        arms[arm].append(_run(engine, arm, ask.prompts, tokens))
    return taken.without[-1]


def _run(engine: VllmProcess, arm: Arm, prompts: list[list[int]], tokens: int) -> Batch:
    engine.reset()  # first: what is still being stored must end before LMCache is taken out
    engine.switch(arm)
    return engine.run_together(prompts, tokens)


def check(workload: str, taken: Taken) -> None:
    """Raise UnavailableError when nothing was found that should have been, or the other way round:
    times would say nothing.
    """
    hit, prompt = _hit_tokens(taken), _prompt_tokens(taken)
    if workload == "no-reuse" and hit:
        raise UnavailableError(f"{hit} of {prompt} tokens were found where nothing was to be found")
    if workload != "no-reuse" and 2 * hit < prompt:
        raise UnavailableError(
            f"only {hit} of {prompt} tokens were found: are the prompts shorter than a chunk?"
        )


def figures(taken: Taken) -> dict[str, Any]:
    """Return the keys of `--json` after `workload`: seconds, output tokens per second, ratios."""
    without = _ttfts(taken.without)
    with_lmcache = _ttfts(taken.with_lmcache)
    medians = statistics.median(without), statistics.median(with_lmcache)
    rates = _throughput(taken.without), _throughput(taken.with_lmcache)
    same = zip(_answers(taken.without), _answers(taken.with_lmcache), strict=True)
    return {
        "requests": len(without),
        "ttft_p50_without": round(medians[0], 6),
        "ttft_p50_with": round(medians[1], 6),
        "ttft_p95_without": round(_p95(without), 6),
        "ttft_p95_with": round(_p95(with_lmcache), 6),
        "ttft_speedup": round(medians[0] / medians[1], 4),
        "ttft_ratio": round(medians[1] / medians[0], 4),
        "throughput_without": round(rates[0], 4),
        "throughput_with": round(rates[1], 4),
        "throughput_ratio": round(rates[1] / rates[0], 4),
        **_idle_figures(taken, medians[0], rates[0]),
        "hit_tokens": _hit_tokens(taken),
        "prompt_tokens": _prompt_tokens(taken),
        "identical": all(left.token_ids == right.token_ids for left, right in same),
    }


def _idle_figures(taken: Taken, ttft: float, rate: float) -> dict[str, Any]:
    """Return what a connector that does nothing takes, over vLLM alone."""
    if not taken.idle:
        return {}
    return {
        "ttft_ratio_idle": round(statistics.median(_ttfts(taken.idle)) / ttft, 4),
        "throughput_ratio_idle": round(_throughput(taken.idle) / rate, 4),
    }


def _answers(batches: list[Batch]) -> list[Answer]:
    return [answer for batch in batches for answer in batch.answers]


def _ttfts(batches: list[Batch]) -> list[float]:
    return [answer.ttft_s for answer in _answers(batches)]


def _p95(values: list[float]) -> float:
    """The smallest value that 95 % of them do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _throughput(batches: list[Batch]) -> float:
    tokens = sum(len(answer.token_ids) for answer in _answers(batches))
    return tokens / sum(batch.wall_s for batch in batches)


def _hit_tokens(taken: Taken) -> int:
    return sum(answer.cached_tokens for answer in _answers(taken.with_lmcache))


def _prompt_tokens(taken: Taken) -> int:
    return sum(answer.prompt_tokens for answer in _answers(taken.with_lmcache))


def _line(taken: Taken) -> str:
    without, with_lmcache = taken.without[-1].answers[-1], taken.with_lmcache[-1].answers[-1]
    return (
        f"{with_lmcache.prompt_tokens} tokens, {with_lmcache.cached_tokens} of them found: "
        f"{without.ttft_s:.3f} s without, {with_lmcache.ttft_s:.3f} s with"
    )
