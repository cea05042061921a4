# SPDX-License-Identifier: Apache-2.0
"""Names that vLLM imports and that refuse to work, saying what to do."""

from __future__ import annotations

import pytest

from lmcache.errors import UnavailableError
from lmcache.integration.vllm import vllm_multi_process_adapter

# As vLLM's module `lmcache_mp_connector` spells them.
NAMES = ["LMCacheMPSchedulerAdapter", "LMCacheMPWorkerAdapter", "LoadStoreOp", "ParallelStrategy"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arguments", [(), ("tcp://localhost:5555", None, 4)])
def test_using_one_says_how_to_do_without(name, arguments):
    with pytest.raises(UnavailableError, match="unset LMCACHE_USE_UPSTREAM_MP"):
        getattr(vllm_multi_process_adapter, name)(*arguments)
    with pytest.raises(UnavailableError, match="no cache server"):
        getattr(vllm_multi_process_adapter, name)(world_size=2)
