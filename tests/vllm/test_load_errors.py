# SPDX-License-Identifier: Apache-2.0
"""Loads that fail in the middle of a batch, under both values of vLLM's `kv_load_failure_policy`.

`recompute`: the answer is that without a cache. `fail`: the request ends with an error, as vLLM
documents, and nobody else is touched.
"""

from __future__ import annotations

import random

import pytest
from faulty_engine import FaultyEngine

CHUNK = 64
PROMPT = [random.Random(21).randrange(3, 2000) for _ in range(6 * CHUNK + 20)]
PREFIX = PROMPT[: 4 * CHUNK + 10]
OTHER = [random.Random(22).randrange(3, 2000) for _ in range(2 * CHUNK)]
MODULE = "lmcache.integration.vllm.connector"


def middle_missing(real, view, items):
    """The slot of a chunk in the middle holds another chunk by now."""
    middle = len(items) // 2
    assert 0 < middle < len(items) - 1
    return real(view, [*items[:middle], (1, *items[middle][1:]), *items[middle + 1 :]])


def middle_bad(real, job):
    """What arrived of a chunk in the middle is damaged or too short: the engine gives its index."""
    return [*real(job), 1]


def never_there(real, job, timeout_ms):
    return False


def off(real, *arguments):
    raise OSError("the tier is off, on purpose")


FAULTS = {
    "missing": {"submit_load": middle_missing},
    "damaged or short": {"finish": middle_bad},
    # Cancelled when its time is up: what has not arrived by then is given as an index too.
    "deadline": {"wait": never_there, "finish": middle_bad},
    "tier off": {"submit_load": off},  # the last one: the worker goes on without the cache
}


@pytest.fixture(scope="module")
def references(open_llm):
    """The answers without a cache, asked together as below."""
    return open_llm(block_size=32).ask([PROMPT, OTHER])


@pytest.fixture(scope="module", params=["recompute", "fail", None])
def served(request, references, open_llm):
    """An engine with a policy, None: not set, and the faults of its worker's engine."""
    transfer = {
        "kv_connector": "LMCacheConnector",
        "kv_connector_module_path": MODULE,
        "kv_role": "kv_both",
        "kv_connector_extra_config": {
            "lmcache.chunk_size": CHUNK,
            "lmcache.segment": "private",
            "lmcache.max_local_cpu_size": 0.2,
        },
    }
    if request.param is not None:
        transfer["kv_load_failure_policy"] = request.param
    llm = open_llm(block_size=32, kv_transfer_config=transfer)
    attachment = llm.worker._attachment
    engine = FaultyEngine(attachment.engine)
    object.__setattr__(attachment, "engine", engine)
    return llm, engine.faults, request.param or "recompute"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_load_that_fails(served, references, monkeypatch, fault):
    llm, faults, policy = served
    assert llm.llm.llm_engine.vllm_config.kv_transfer_config.kv_load_failure_policy == policy
    llm.ask_one(PREFIX, salt=fault)
    llm.settle()
    faults.update(FAULTS[fault])
    if fault == "deadline":
        monkeypatch.setattr(llm.worker, "_deadline_s", 0.01)
    (first, reason), (other, other_reason) = llm.ask_with_reasons([PROMPT, OTHER], salt=fault)
    faults.clear()
    assert other_reason == "length"
    assert other.differs_from(references[1]) == ""
    if policy == "fail":
        assert reason == "error"
    else:
        assert reason == "length"
        assert first.differs_from(references[0]) == ""
    llm.settle()
    for _ in range(2):  # nothing wrong was stored meanwhile
        again = llm.ask_one(PROMPT, salt=fault)
        assert again.differs_from(references[0]) == ""
    if fault != "tier off":
        assert again.cached_tokens == len(PROMPT) - 1
