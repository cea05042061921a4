# SPDX-License-Identifier: Apache-2.0
"""Text becomes the type of its setting, or stays text for the validator to refuse."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from lmcache.config.text import from_text, says_none
from lmcache.config.value_types import Gigabytes, Ports, Shares


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (bool, "True", True),
        (bool, "YES", True),
        (bool, " off ", False),
        (bool, "0", False),
        (bool, "2", "2"),
        (int, " 12 ", 12),
        (int, "-3", -3),
        (int, "1.0", "1.0"),
        (float, "1e2", 100.0),
        (float, "3", 3.0),
        (Gigabytes | None, "none", None),
        (Gigabytes | None, "2", 2.0),
        (Gigabytes | None, "2 GB", "2 GB"),
        (bool | Literal["auto"], "auto", "auto"),
        (bool | Literal["auto"], "false", False),
        (Ports | None, "80,90-92", (80, 90, 91, 92)),
        (Ports | None, "[80, 81]", (80, 81)),
        (Ports | None, "9-8", "9-8"),
        (Ports | None, "80,,81", "80,,81"),
        (Shares, "0.1,.2", (0.1, 0.2)),
        (str, "  kept  ", "  kept  "),
        (str, "true", "true"),
    ],
)
def test_from_text(annotation: Any, text: str, value: Any) -> None:
    read = from_text(annotation, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("raw", [None, "", "  ", "none", "NULL", " None "])
def test_none(raw: str | None) -> None:
    assert says_none(raw)


@pytest.mark.parametrize("raw", [0, False, "0", "nothing", ()])
def test_not_none(raw: Any) -> None:
    assert not says_none(raw)
