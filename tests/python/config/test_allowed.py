# SPDX-License-Identifier: Apache-2.0
"""Types in words."""

from __future__ import annotations

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.allowed import allowed_text, choices

FIELDS = LMCacheConfig.model_fields


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chunk_size", "a whole number of tokens from 1 to 1048576"),
        ("local_cpu", "true or false"),
        ("ttl", "a whole number of seconds above 0 or none"),
        ("retrieval_mode", 'one of "exact", "semantic"'),
        ("use_layerwise", 'true or false or "auto"'),
        ("cache_warmup", "true or false or a path"),
        ("blend_special_str", "text"),
    ],
)
def test_allowed_text(name: str, text: str) -> None:
    assert allowed_text(FIELDS[name]) == text


def test_every_setting_can_be_put_into_words() -> None:
    assert all(allowed_text(field) for field in FIELDS.values())


def test_choices() -> None:
    assert choices(FIELDS["remote_serde"].annotation) == ["msgpack", "naive"]
    assert choices(FIELDS["use_layerwise"].annotation) == ["auto"]
    assert choices(FIELDS["ttl"].annotation) == []
