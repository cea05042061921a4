# SPDX-License-Identifier: Apache-2.0
"""The page of documentation is the one the model makes."""

from __future__ import annotations

from pathlib import Path

from lmcache.config import LMCacheConfig
from lmcache.config.aliases import ALIASES
from lmcache.config.document import markdown

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == markdown(), (
        "run: python -m lmcache.config.document > docs/configuration.md"
    )


def test_every_name_is_on_the_page() -> None:
    page = markdown()
    assert all(f"| `{name}` |" in page for name in [*LMCacheConfig.model_fields, *ALIASES])
