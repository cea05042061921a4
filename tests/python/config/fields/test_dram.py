# SPDX-License-Identifier: Apache-2.0
"""Settings of the memory: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.dram import DramOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("max_local_cpu_size", 20, 20.0),
        ("max_local_cpu_size", 0.5, 0.5),
        ("local_cpu_ratio", 1, 1.0),
        ("eviction_policy", "LRU", "lru"),
        ("eviction_policy", "S3FIFO", "s3fifo"),
        ("local_device", "CUDA", "cuda"),
        ("max_local_device_size", 8, 8.0),
        ("max_local_device_size", 0.5, 0.5),
        ("use_layerwise", True, True),
        ("use_layerwise", "Auto", "auto"),
        ("cache_warmup", True, True),
        ("cache_warmup", "/prompts.jsonl", "/prompts.jsonl"),
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in DramOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("max_local_cpu_size", -5, "gigabytes (10^9 bytes) above 0"),
        ("max_local_cpu_size", 0, "gigabytes"),
        ("max_local_cpu_size", True, "gigabytes"),
        ("max_local_cpu_size", float("inf"), "gigabytes"),
        ("max_local_cpu_size", float("nan"), "gigabytes"),
        ("max_local_cpu_size", "20GB", "gigabytes"),
        ("local_cpu_ratio", 0, "above 0 and at most 1"),
        ("local_cpu_ratio", 1.01, "above 0 and at most 1"),
        ("local_cpu_ratio", -0.3, "above 0 and at most 1"),
        ("local_cpu", "maybe", "true or false"),
        ("local_cpu", 1, "true or false"),
        ("eviction_policy", "lur", 'did you mean "lru"?'),
        ("eviction_policy", "random", '"lru", "lfu", "arc", "s3fifo", "fifo", "mru"'),
        ("eviction_policy", 3, '"lru"'),
        ("local_device", "tpu", '"auto", "cpu", "cuda"'),
        ("max_local_device_size", 0, "gigabytes (10^9 bytes) above 0"),
        ("max_local_device_size", -1, "gigabytes"),
        ("max_local_device_size", True, "gigabytes"),
        ("max_local_device_size", "8GB", "gigabytes"),
        ("use_layerwise", "sometimes", 'true or false or "auto"'),
        ("cache_warmup", 1, "true or false or a path"),
        ("segment", "a b", "a name of up to 64"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in DramOptions.model_fields
    assert allowed in refusal(name, written)
