# SPDX-License-Identifier: Apache-2.0
"""Sizes as people read them."""

from __future__ import annotations

import pytest

from lmcache.cli.doctor.check import gigabytes


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0.0 GB"), (65536, "0.1 MB"), (99_000_000, "99.0 MB"), (1.5e9, "1.5 GB")],
)
def test_gigabytes(size_bytes: float, text: str) -> None:
    assert gigabytes(size_bytes) == text
