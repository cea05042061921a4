# SPDX-License-Identifier: Apache-2.0
"""Which model an engine serves: name, revision of the weights, and what else changes the KV it
computes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcache.integration.vllm.fingerprint import config_text, digest, weights_fingerprint

# A hub model in the local hub cache: vLLM replaces the name by this path when it may not go online.
_SNAPSHOT = re.compile(
    r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?$"
)
# Rope kinds whose rotation depends on the longest sequence the engine was started for.
_LENGTH_DEPENDENT_ROPE = frozenset({"longrope", "su", "dynamic"})


@dataclass(frozen=True)
class ModelIdentity:
    """Equal for two engines only if they compute the same KV for the same tokens."""

    name: str  # for people: hub name, or name of the folder
    revision: str  # of the weights: commit of the hub, or fingerprint of the files
    extra: str  # JSON: hash of the model's configuration, quantisation, numerics


def model_identity(vllm_config: Any) -> ModelIdentity:
    """Return the identity of the model that vLLM was configured for. Reads samples of the weight
    files.
    """
    model = vllm_config.model_config
    name, revision = _name_and_revision(model)
    # Resolved by vLLM: overrides by the user, rope scaling and quantisation are in it.
    settings = config_text(model.hf_config.to_dict())
    extra = {
        "config": digest(settings),
        "dtype": str(model.dtype),
        "quantization": str(model.quantization),
        "load_format": _load_format(vllm_config),
        "rope_length": _rope_length(model, settings),
        "draft": _draft(vllm_config),
    }
    return ModelIdentity(name, revision, json.dumps(extra, sort_keys=True))


def _name_and_revision(model: Any) -> tuple[str, str]:
    source = str(model.model)
    snapshot = _SNAPSHOT.search(source)
    if snapshot is not None:
        return f"{snapshot['owner']}/{snapshot['name']}", snapshot["commit"]
    path = Path(source)
    if path.exists():
        return path.resolve().name, weights_fingerprint(path)
    commit = getattr(model.hf_config, "_commit_hash", None)
    return source, str(commit or model.revision or "main")


def _load_format(vllm_config: Any) -> str:
    """How weights were loaded, where that changes them: random weights depend on the seed, not on
    files.
    """
    load_format = str(vllm_config.load_config.load_format)
    if load_format.rpartition(".")[2].lower() == "dummy":
        return f"dummy seed {vllm_config.model_config.seed}"
    return "files"


def _rope_length(model: Any, settings: str) -> int:
    """Longest sequence, if positions are rotated by rules that depend on it; else 0."""
    kinds = set(re.findall(r'"(?:rope_type|type)": "([a-z]+)"', settings))
    return int(model.max_model_len) if kinds & _LENGTH_DEPENDENT_ROPE else 0


def _draft(vllm_config: Any) -> str:
    """What drafts tokens: a draft model's layers may lie in the same KV blocks."""
    speculative = vllm_config.speculative_config
    if speculative is None:
        return ""
    return f"{speculative.method} {getattr(speculative, 'model', None)}"
