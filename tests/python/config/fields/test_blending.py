# SPDX-License-Identifier: Apache-2.0
"""Settings of substring reuse: what they take, and what they say to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.fields.blending import BlendingOptions


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("blend_recompute_ratios", 0.2, (0.2,)),
        ("blend_check_layers", [1, 2], (1, 2)),
        ("blend_special_str", "", ""),
        ("blend_min_tokens", 0, 0),
    ],
)
def test_accepted(name: str, written: Any, value: Any) -> None:
    assert name in BlendingOptions.model_fields
    assert getattr(LMCacheConfig(**{name: written}), name) == value


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("blend_recompute_ratios", [0.1, 2], "above 0 and at most 1"),
        ("blend_check_layers", [-1], "layer numbers, 0 or more"),
        ("blend_special_str", 3, "text"),
        ("blend_min_tokens", -1, "0 or more"),
    ],
)
def test_refused(refusal: Callable[[str, Any], str], name: str, written: Any, allowed: str) -> None:
    assert name in BlendingOptions.model_fields
    assert allowed in refusal(name, written)
