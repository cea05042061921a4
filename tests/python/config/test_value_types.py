# SPDX-License-Identifier: Apache-2.0
"""What is printed of a value that may hold a password. The limits are tested through the model."""

from __future__ import annotations

import pytest

from lmcache.config.value_types import hide_password


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://me@host", "redis://me@host"),
        ("redis://me:pw@host:6379", "redis://me:***@host:6379"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://:p:w/d@host", "redis://:***@host"),
        ("redis://me:p@w@host", "redis://me:***@host"),
        ("redis://me:p w@host", "redis://me:***@host"),
        ("/a,/b", "/a,/b"),
        (256, "256"),
    ],
)
def test_hide_password(value: object, shown: str) -> None:
    assert hide_password(value) == shown
