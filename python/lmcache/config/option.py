# SPDX-License-Identifier: Apache-2.0
"""How a setting is declared: its default and its meaning, in one line of the model."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def option(default: Any, meaning: str, *, default_text: str = "", secret: bool = False) -> Any:
    """Declare a setting.

    `meaning` is the text of the documentation and of the JSON schema, with the unit where there is
    one. `default_text` replaces the default in the documentation where it depends on the machine.
    `secret` keeps the value out of `repr`, since it may hold a password.
    """
    extra: dict[str, Any] | None = {"default_text": default_text} if default_text else None
    return Field(default, description=meaning, json_schema_extra=extra, repr=not secret)
