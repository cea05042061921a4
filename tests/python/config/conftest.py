# SPDX-License-Identifier: Apache-2.0
"""What a wrong value is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmcache.config import LMCacheConfig
from lmcache.errors import ConfigError


@pytest.fixture
def refusal() -> Callable[[str, Any], str]:
    """Return a function that writes a setting, expects a refusal and returns the message."""

    def refused(name: str, written: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            LMCacheConfig(**{name: written})
        message = str(caught.value)
        # Whatever is wrong: the setting, its value and its source, on one line.
        assert message.startswith(f"{name} = ")
        assert str(written).lower() in message.lower()
        assert "(argument): must be " in message
        assert "\n" not in message
        return message

    return refused
