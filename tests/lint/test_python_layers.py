# SPDX-License-Identifier: Apache-2.0
"""The Python layer check: this repository passes, and every kind of violation is seen."""

from __future__ import annotations

import pytest
from tree_checks import python_layers


def test_repository_keeps_its_layers(repository):
    assert python_layers.check(repository) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("config/load.py", "from lmcache.engine import Engine", "config (rank 1) imports engine"),
        ("config/load.py", "from lmcache import engine", "config (rank 1) imports engine"),
        ("config/load.py", "from ..engine import Engine", "config (rank 1) imports engine"),
        ("config/load.py", "import lmcache.types", "config (rank 1) imports types (rank 1)"),
        ("bench/memory.py", "import lmcache.server.app", "bench (rank 4) imports server (rank 4)"),
        ("engine/x.py", "def f():\n    import lmcache.cli", "engine (rank 3) imports cli"),
        ("integration/vllm/a.py", "import lmcache.integration.sglang.b", "imports its sibling"),
        ("engine/x.py", "import torch", "torch is confined to"),
        ("engine/x.py", "from torch.cuda import Stream", "torch is confined to"),
        ("bench/vllm.py", "from vllm import LLM", "vllm is confined to"),
        ("engine/x.py", "import prometheus_client", "prometheus_client is confined to"),
        ("nonsense/x.py", "import os", "'nonsense' has no rank"),
    ],
)
def test_violation_is_seen(plant, module, source, complaint):
    bad = python_layers.check(plant({f"python/lmcache/{module}": source}))
    assert any(complaint in line for line in bad), bad


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli/__init__.py", "import lmcache.engine\nfrom lmcache import bench"),
        ("config/load.py", "from lmcache.errors import ConfigError\nfrom lmcache.config import x"),
        ("engine/x.py", "from __future__ import annotations\nimport os, numpy"),
        ("integration/vllm/connector.py", "import torch, vllm\nfrom lmcache import _native"),
        ("bench/model.py", "import torch"),
        ("config/load.py", "if TYPE_CHECKING:\n    from lmcache.engine import Engine"),
        ("__init__.py", "from lmcache.engine import LMCacheEngine"),
    ],
)
def test_allowed_import_passes(plant, module, source):
    assert python_layers.check(plant({f"python/lmcache/{module}": source})) == []
