# SPDX-License-Identifier: Apache-2.0
"""The namespaces of a segment, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmcache.cli.status.report import made_of
from lmcache.cli.status.tables import kind_of

# How members of a namespace are called where the native library's name would not do.
_TITLES = {"salt_sha256": "cache salt", "lora": "LoRA adapter", "world_size": "ranks"}


@dataclass(frozen=True)
class Space:
    """A namespace: prompts find only what was stored in their own."""

    id: int
    incarnation: int
    root: bytes
    lanes: int
    chunk_tokens: int
    model: str
    entries: int
    made_of: Mapping[str, Any]

    @property
    def world_size(self) -> int:
        """Ranks per group of layers."""
        return int(self.made_of.get("world_size", self.lanes))

    def title(self) -> str:
        """Name it for people."""
        kind = kind_of(self.made_of)
        return f"{self.model} ({kind})" if kind else self.model


def spaces_of(status: Mapping[str, Any]) -> dict[int, Space]:
    """Return the namespaces of a segment's status, by their number."""
    return {
        record["id"]: Space(
            id=record["id"],
            incarnation=record["incarnation"],
            root=record["root"],
            lanes=record["lanes"],
            chunk_tokens=record["chunk_tokens"],
            model=record["model"],
            entries=record["entries"],
            made_of=made_of(record["description"]),
        )
        for record in status["namespaces"]
    }


def differences(ours: Space, theirs: Space) -> list[dict[str, Any]]:
    """Return the members in which two namespaces differ: `member`, `here`, `there`."""
    mine, other = dict(_flat(ours.made_of)), dict(_flat(theirs.made_of))
    found = [
        {"member": name, "here": mine.get(name), "there": other.get(name)}
        for name in [*mine, *(name for name in other if name not in mine)]
        if mine.get(name) != other.get(name)
    ]
    if any(str(difference["member"]).startswith("geometry.") for difference in found):
        found = [item for item in found if item["member"] != "geometry_hash"]
    if found:
        return found
    # Texts are cut to fit the segment, and a reset of the weights shows in none of them.
    return [{"member": "something that the segment keeps no text of", "here": None, "there": None}]


def tell_differences(found: list[dict[str, Any]]) -> str:
    """Write them in one line."""
    return "; ".join(_told(difference) for difference in found)


def _told(difference: Mapping[str, Any]) -> str:
    member = str(difference["member"])
    name = _TITLES.get(member, member)
    here, there = difference["here"], difference["there"]
    if here is None and there is None:
        return name
    return f"{name} ({_shown(here)} here, {_shown(there)} there)"


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else str(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        if isinstance(member, Mapping):
            yield from _flat(member, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", member
