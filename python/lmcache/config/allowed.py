# SPDX-License-Identifier: Apache-2.0
"""What may be written for a setting, in words: read off its type, for messages and documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Allowed:
    """Put into an `Annotated[...]` type: the values it accepts, as the end of "must be ..."."""

    text: str


def allowed_text(field: FieldInfo) -> str:
    """Return the values `field` accepts, as the end of a sentence that begins "must be"."""
    told = [item.text for item in field.metadata if isinstance(item, Allowed)]
    return told[0] if told else " or ".join(_texts(field.annotation))


def choices(annotation: Any) -> list[str]:
    """Return the words a type is limited to; empty when it is not a matter of choosing."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in choices(part)]


def _texts(annotation: Any) -> Iterator[str]:
    """Yield one text per member of a union, none last."""
    arguments = get_args(annotation)
    told = [item.text for item in arguments if isinstance(item, Allowed)]
    if told:
        yield told[0]
    elif get_origin(annotation) is Literal:
        one_of = "one of " if len(arguments) > 1 else ""
        yield one_of + ", ".join(f'"{word}"' for word in arguments)
    elif annotation is bool:
        yield "true or false"
    elif annotation is NoneType:
        yield "none"
    elif annotation is str:
        yield "text"
    else:
        members = sorted(arguments, key=lambda part: part is NoneType)
        for part in members:
            yield from _texts(part)
