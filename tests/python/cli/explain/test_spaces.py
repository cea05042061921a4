# SPDX-License-Identifier: Apache-2.0
"""In what namespaces differ."""

from __future__ import annotations

from typing import Any

from lmcache.cli.explain.spaces import Space, differences, tell_differences


def space(**made_of: Any) -> Space:
    return Space(0, 1, b"", 2, 256, "m", 0, {"model": "m", **made_of})


def test_members_are_named() -> None:
    ours = space(lora="", salt_sha256="ab12", geometry_hash="1", geometry={"dtype": "bfloat16"})
    theirs = space(lora="x", salt_sha256="", geometry_hash="2", geometry={"dtype": "fp8"})
    found = differences(ours, theirs)
    assert [one["member"] for one in found] == ["lora", "salt_sha256", "geometry.dtype"]
    assert tell_differences(found) == (
        "LoRA adapter (none here, x there); cache salt (ab12 here, none there); "
        "geometry.dtype (bfloat16 here, fp8 there)"
    )


def test_a_geometry_whose_text_was_cut_off() -> None:
    found = differences(space(geometry_hash="1"), space(geometry_hash="2"))
    assert [one["member"] for one in found] == ["geometry_hash"]


def test_what_no_text_shows() -> None:
    assert "no text" in tell_differences(differences(space(), space()))


def test_ranks() -> None:
    assert space(world_size=1).world_size == 1
    assert space().world_size == 2
