# SPDX-License-Identifier: Apache-2.0
"""Text of an environment variable, turned into the type its setting has."""

from __future__ import annotations

import re
from types import NoneType
from typing import Any, get_args, get_origin

_SWITCH = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_NONE = ("", "none", "null")
_RANGE = re.compile(r"(\d+)-(\d+)")

# A range longer than this is a typing mistake, not a list of ports or layers.
_MAX_RANGE = 4096


def says_none(value: Any) -> bool:
    """Return whether a raw value means "nothing here": None, empty, "none" or "null"."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NONE)


def from_text(annotation: Any, text: str) -> Any:
    """Return `text` as a value of the type `annotation`, or unchanged where it cannot be read as
    one.

    Unchanged text then fails validation, where the message is made.
    """
    for member in _members(annotation):
        value = _as_type(member, text.strip())
        if value is not _UNREAD:
            return value
    return text


_UNREAD = object()


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union, flat and without annotations; a tuple stays whole."""
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is tuple:
        return [annotation]
    return [member for part in arguments for member in _members(part)]


def _as_type(kind: Any, text: str) -> Any:
    if kind is bool:
        return _SWITCH.get(text.lower(), _UNREAD)
    if kind is NoneType:
        return None if text.lower() in _NONE else _UNREAD
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return _UNREAD
    if get_origin(kind) is tuple:
        return _as_tuple(_members(get_args(kind)[0])[0], text)
    return _UNREAD


def _as_tuple(kind: Any, text: str) -> Any:
    """Read "1,2,8-10" for numbers; lists of words are split by their own type."""
    if kind is str:
        return _UNREAD
    items: list[Any] = []
    for part in text.strip("[]()").split(","):
        span = _RANGE.fullmatch(part.strip()) if kind is int else None
        if span:
            first, last = int(span[1]), int(span[2])
            if not first <= last < first + _MAX_RANGE:
                return _UNREAD
            items.extend(range(first, last + 1))
            continue
        item = _as_type(kind, part.strip())
        if item is _UNREAD:
            return _UNREAD
        items.append(item)
    return tuple(items)
