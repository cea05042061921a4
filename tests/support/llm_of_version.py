# SPDX-License-Identifier: Apache-2.0
"""Serves one prompt with the vLLM that this process imports: alone, and twice with a connector.

Arguments: the model's folder, vLLM's kv_transfer_config as JSON. Prints JSON.
"""

from __future__ import annotations

import json
import random
import sys

import vllm
from served_llm import ServedLLM

PROMPT = [random.Random(9).randrange(3, 2000) for _ in range(300)]


def main(model: str, transfer: str) -> None:
    alone = ServedLLM(model=model)
    expected = alone.ask_one(PROMPT)
    alone.close()
    cached = ServedLLM(model=model, kv_transfer_config=json.loads(transfer))
    answers = [cached.ask_one(PROMPT) for _ in range(2)]
    cached.close()
    report = {
        "version": vllm.__version__,
        "cached": [answer.cached_tokens for answer in answers],
        "wrong": [answer.differs_from(expected) for answer in answers],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
