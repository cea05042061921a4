# SPDX-License-Identifier: Apache-2.0
"""The namespace of a model, declared or found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kv_arrays import GEOMETRY

from lmcache.engine.model_space import ModelIdentity, ModelSpace
from lmcache.errors import GeometryError, InvalidArgumentError
from lmcache.types import KVGeometry

IDENTITY = ModelIdentity("org/model", revision="r1", lora="adapter-3", salt="secret")


def roots(*pairs: tuple[ModelIdentity, KVGeometry, int]) -> set[bytes]:
    return {identity.spec(geometry, chunk).root() for identity, geometry, chunk in pairs}


def test_every_member_changes_the_namespace() -> None:
    others = [replace(IDENTITY, **{name: "x"}) for name in ("model", "revision", "lora", "salt")]
    geometries = [
        replace(GEOMETRY, **{name: value})
        for name, value in {"layers": 4, "kv_heads": 4, "head_dim": 4, "dtype": "bfloat16"}.items()
    ]
    all_roots = roots(
        (IDENTITY, GEOMETRY, 16),
        (IDENTITY, GEOMETRY, 32),
        *((other, GEOMETRY, 16) for other in others),
        *((IDENTITY, geometry, 16) for geometry in geometries),
    )
    assert len(all_roots) == 10


def test_equal_sizes_are_not_equal_geometries() -> None:
    twisted = replace(GEOMETRY, kv_heads=GEOMETRY.head_dim, head_dim=GEOMETRY.kv_heads)
    assert twisted.token_bytes == GEOMETRY.token_bytes
    assert len(roots((IDENTITY, GEOMETRY, 16), (IDENTITY, twisted, 16))) == 2


def test_what_a_segment_lists_is_read_back(make_engine: Any) -> None:
    native = make_engine()._native
    ModelSpace(native, IDENTITY, 16).bind(GEOMETRY)
    (record,) = native.status()["namespaces"]
    assert IDENTITY.geometry_in(record, 16) == GEOMETRY
    assert IDENTITY.geometry_in(record, 32) is None
    for name in ("model", "revision", "lora", "salt"):
        assert replace(IDENTITY, **{name: "x"}).geometry_in(record, 16) is None
        assert (
            replace(IDENTITY, **{name: "" if name != "model" else "y"}).geometry_in(record, 16)
            is None
        )
    for description in ("", "[]", "{}", '{"geometry": null}'):
        assert IDENTITY.geometry_in({**record, "description": description}, 16) is None


def test_long_names_are_found_too(make_engine: Any) -> None:
    native = make_engine()._native
    identity = ModelIdentity("/models/" + "ü" * 300, revision="r" * 100, lora="l" * 100)
    ModelSpace(native, identity, 16).bind(GEOMETRY)
    found = ModelSpace(native, identity, 16)
    assert found.find() == ""
    assert found.geometry == GEOMETRY


def test_the_namespace_of_another_integration_is_not_ours(make_engine: Any) -> None:
    from lmcache import _native

    engine = make_engine()._native
    group = _native.KvGroup(16, [512] * 3)
    geometry = _native.KvGeometry("float32", "vllm", [group], '{"layers":3}')
    engine.open_namespace(_native.NamespaceSpec("org/model", "", geometry, 16))
    reason = ModelSpace(engine, ModelIdentity("org/model"), 16).find()
    assert "nothing of it is in the segment" in reason


def test_a_second_geometry_is_refused(make_engine: Any) -> None:
    space = ModelSpace(make_engine()._native, IDENTITY, 16)
    assert space.bind(GEOMETRY).id == space.bind(GEOMETRY).id
    with pytest.raises(GeometryError, match="KV is KVGeometry"):
        space.bind(replace(GEOMETRY, layers=4))


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        (ModelIdentity(""), "model is empty"),
        (ModelIdentity("m" * 5000), "model is 5000 bytes long"),
        (ModelIdentity("m", salt="s" * 5000), "salt is 5000 bytes long"),
    ],
)
def test_a_wrong_identity_is_told(identity: ModelIdentity, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        identity.spec(GEOMETRY, 16)
