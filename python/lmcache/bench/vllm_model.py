# SPDX-License-Identifier: Apache-2.0
"""What a benchmark must know of a model before vLLM has loaded it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcache.errors import InvalidArgumentError

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class ModelFacts:
    """Read from the configuration that lies beside the weights."""

    vocabulary: int
    token_bytes: int  # KV of one token over all layers, in float32: an upper bound

    def segment_gb(self, tokens: int) -> float:
        """Return a segment size that holds so many tokens with room to spare."""
        return max(0.1, 1.5 * tokens * self.token_bytes / 1e9)


def read_model(folder: Path) -> ModelFacts:
    """Return the facts of a model. Raises InvalidArgumentError when there is none in `folder`."""
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"--model {folder}: no model there ({error}); name a folder with a config.json"
        ) from error
    try:
        heads = int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
        layers = int(config["num_hidden_layers"])
        vocabulary = int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"--model {folder}: {path.name} does not describe a text model ({error})"
        ) from error
    return ModelFacts(vocabulary, layers * 2 * kv_heads * head_dim * _FLOAT32_BYTES)
