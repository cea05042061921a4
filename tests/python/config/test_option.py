# SPDX-License-Identifier: Apache-2.0
"""Declaring a setting."""

from __future__ import annotations

from pydantic import BaseModel

from lmcache.config.option import option


class _Settings(BaseModel):
    plain: int = option(3, "a number")
    machine: int | None = option(None, "a number", default_text="all cores")
    hidden: str = option("", "a password", secret=True)


def test_default_and_meaning() -> None:
    assert _Settings().plain == 3
    assert _Settings.model_fields["plain"].description == "a number"


def test_default_text() -> None:
    extra = {name: field.json_schema_extra for name, field in _Settings.model_fields.items()}
    assert extra == {"plain": None, "machine": {"default_text": "all cores"}, "hidden": None}


def test_a_secret_is_not_in_repr() -> None:
    assert repr(_Settings(hidden="word")) == "_Settings(plain=3, machine=None)"
