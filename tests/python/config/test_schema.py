# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema describes both dialects."""

from __future__ import annotations

import json

import pytest

from lmcache.config import LMCacheConfig
from lmcache.config.aliases import ALIASES
from lmcache.config.schema import json_schema


def test_every_name_is_described() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == {*LMCacheConfig.model_fields, *ALIASES}
    assert all(entry["description"] for entry in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_it_accepts_and_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.validate({"chunk_size": 128, "local_disk": "/a", "ttl": None}, schema)
    for wrong in ({"chunk_size": -1}, {"chunk_sise": 1}, {"cache_policy": "random"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
