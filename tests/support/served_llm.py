# SPDX-License-Identifier: Apache-2.0
"""vLLM in this process, asked with token ids; its own prefix cache is emptied before every
question.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import set_num_threads  # a worker that starts replaces torch's name by one of no effect

DEFAULTS = {
    "dtype": "float32",  # bfloat16 is slow without the CPU's support
    "enforce_eager": True,
    "max_model_len": 4096,
    "disable_log_stats": True,
}


@dataclass(frozen=True)
class Answer:
    """What came back for one prompt: tokens, log-probabilities of the best few, tokens not
    computed.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[dict[int, float], ...]
    cached_tokens: int

    def differs_from(self, other: Answer, tolerance: float = 1e-4) -> str:
        """Return what differs, empty if nothing does. Equal text alone hides corrupted KV."""
        if self.tokens != other.tokens:
            return f"tokens {self.tokens} != {other.tokens}"
        for position, (mine, theirs) in enumerate(zip(self.logprobs, other.logprobs, strict=True)):
            for token in mine.keys() & theirs.keys():
                if abs(mine[token] - theirs[token]) > tolerance:
                    return f"position {position}, token {token}: {mine[token]} != {theirs[token]}"
        return ""


class ServedLLM:
    """One engine. Close it before the next one is started."""

    def __init__(self, *, threads: int = 1, **settings: Any) -> None:
        """`threads`: of torch. Tiny models take several times as long with two, which meet at the
        end of each operation and wait for each other.
        """
        from vllm import LLM

        self.llm: Any = LLM(**{**DEFAULTS, **settings})
        set_num_threads(threads)

    def ask(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int = 4,
        *,
        salt: str | None = None,
        lora: Any = None,
        **sampling: Any,
    ) -> list[Answer]:
        """Serve prompts together; greedy, with the log-probabilities of the best five."""
        served = self.ask_with_reasons(prompts, max_tokens, salt=salt, lora=lora, **sampling)
        return [answer for answer, _ in served]

    def ask_with_reasons(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int = 4,
        *,
        salt: str | None = None,
        lora: Any = None,
        forget: bool = True,
        **sampling: Any,
    ) -> list[tuple[Answer, str]]:
        """Serve prompts together; with each answer comes why it ended. `forget`: vLLM's own prefix
        cache first.
        """
        from vllm import SamplingParams

        if forget and not self.llm.reset_prefix_cache():
            raise AssertionError("vLLM did not empty its prefix cache: blocks are still in use")
        asked = [
            {"prompt_token_ids": list(prompt)} | ({"cache_salt": salt} if salt else {})
            for prompt in prompts
        ]
        parameters = SamplingParams(
            temperature=0, max_tokens=max_tokens, logprobs=5, ignore_eos=True, **sampling
        )
        outputs = self.llm.generate(asked, parameters, use_tqdm=False, lora_request=lora)
        return [(self._answer(output), str(output.outputs[0].finish_reason)) for output in outputs]

    def ask_one(self, prompt: Sequence[int], max_tokens: int = 4, **options: Any) -> Answer:
        """Serve one prompt alone."""
        return self.ask([prompt], max_tokens, **options)[0]

    @staticmethod
    def _answer(output: Any) -> Answer:
        completion = output.outputs[0]
        logprobs = tuple(
            {token: entry.logprob for token, entry in position.items()}
            for position in completion.logprobs or ()
        )
        return Answer(tuple(completion.token_ids), logprobs, int(output.num_cached_tokens or 0))

    @property
    def core(self) -> Any:
        """The engine core, with the scheduler and the worker in this process."""
        return self.llm.llm_engine.engine_core.engine_core

    @property
    def connector(self) -> Any:
        """The connector beside the scheduler; the wrapper vLLM ships holds ours."""
        connector = self.core.scheduler.connector
        inner = getattr(connector, "_lmcache_engine", None)
        return connector if inner is None else inner._connector

    @property
    def worker(self) -> Any:
        """The worker half."""
        from vllm.distributed.kv_transfer import get_kv_transfer_group

        connector = get_kv_transfer_group()
        inner = getattr(connector, "_lmcache_engine", None)
        return (connector if inner is None else inner._connector)._worker_half

    def settle(self) -> None:
        """Let the engine run empty steps, as it does in a process of its own, until all blocks are
        free.
        """
        while self.core.scheduler.has_finished_requests():
            self.core.step_fn()

    def loaded_tokens(self) -> int:
        """Tokens that were copied out of the segment so far."""
        return int(self.worker._attachment.engine.stats()["loaded_tokens"])

    def close(self) -> None:
        """Shut the engine down, so that another one can start in this process. Once is enough."""
        from vllm.distributed import cleanup_dist_env_and_memory

        if self.llm is None:
            return
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = None
        gc.collect()
        cleanup_dist_env_and_memory()
