# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of a configuration in either dialect, for editors and checks."""

from __future__ import annotations

from typing import Any

from lmcache.config.aliases import ALIASES
from lmcache.config.model import LMCacheConfig


def json_schema() -> dict[str, Any]:
    """Return the schema. The names of existing deployments stand beside ours."""
    schema = LMCacheConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    properties = schema["properties"]
    for declared in properties.values():
        declared.pop("default_text", None)  # for the documentation only
    for alias, field in sorted(ALIASES.items()):
        properties[alias] = {**properties[field], "description": f"Another name of `{field}`."}
    return schema
