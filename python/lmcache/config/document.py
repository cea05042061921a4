# SPDX-License-Identifier: Apache-2.0
"""The page of documentation that lists every setting, made from the model so that it cannot be out
of date.

Write it with `python -m lmcache.config.document > docs/configuration.md`; a test compares the two.
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lmcache.config.aliases import names_of
from lmcache.config.allowed import allowed_text
from lmcache.config.model import SECTIONS

_HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by `python -m lmcache.config.document`. Change the model, not this page. -->
# Configuration

A setting comes from, in this order: the program (`lmcache_config={...}`, `LMCacheConfig(...)`, or
vLLM's `kv_connector_extra_config`, where `lmcache.` may stand in front of a name), the environment,
the YAML file that `LMCACHE_CONFIG_FILE` names, the default below.

* The environment variable of a setting is `LMCACHE_` and the name in capitals, for every name in
  the tables: `chunk_size` is `LMCACHE_CHUNK_SIZE`. An empty variable counts as absent. Lists are
  separated by commas.
* The names of existing LMCache deployments work unchanged; where they differ they stand under
  *also*. Two names of one setting with different values in one place are an error.
* A wrong value is an error that names the setting, the value, where it came from and what is
  allowed. A name that nobody knows is an error in a dictionary, and a warning in a file or in the
  environment.
* Case does not matter in words to choose from. GB are 10^9 bytes.
* `lmcache config show` prints every setting and where its value came from, `lmcache config check
  FILE` checks a file, `lmcache config schema` prints a JSON Schema.

```yaml
# lmcache.yaml, used by LMCACHE_CONFIG_FILE=lmcache.yaml
chunk_size: 256
max_local_cpu_size: 20   # GB
eviction_policy: lru
```
"""


def markdown() -> str:
    """Return the page."""
    return _HEAD + "".join(_section(section) for section in SECTIONS)


def _section(section: type[BaseModel]) -> str:
    rows = (_row(name, field) for name, field in section.model_fields.items())
    columns = "| setting | also | default | values | meaning |\n|---|---|---|---|---|\n"
    return f"\n## {section.__doc__}\n\n{columns}" + "".join(rows)


def _row(name: str, field: FieldInfo) -> str:
    also = ", ".join(f"`{alias}`" for alias in names_of(name)[1:])
    cells = (f"`{name}`", also, _default(field), allowed_text(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return str(extra["default_text"])
    return _plain(field.default)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(markdown())
