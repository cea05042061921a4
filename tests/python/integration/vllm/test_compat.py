# SPDX-License-Identifier: Apache-2.0
"""The shield against released versions of vLLM, each in a process of its own, and what stands in
for what they lack.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import released_vllm

pytest.importorskip("vllm", reason="the connector needs vLLM")

from lmcache.integration.vllm import compat

REPORT = Path(released_vllm.__file__).parent / "connector_report.py"
# What a version has of what another one lacks. All of them have everything else.
LACKS = {
    "0.28.0": {
        "load failures by request",
        "hits by tier",
        "block tables with each step",
        "KV layout by engine",
        "KV replicas of ranks",
    },
    "0.31.0": {"hits by tier"},
    "installed": set(),
}


@pytest.fixture(scope="module", params=[*released_vllm.VERSIONS, "installed"])
def report(request):
    """What a version says of our connector: see tests/support/connector_report.py."""
    version = request.param
    try:
        env = None if version == "installed" else released_vllm.environment(version)
    except released_vllm.NotThereError as error:
        if released_vllm.is_demanded():
            raise
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, REPORT], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert version == "installed" or told["version"].startswith(version)
    return told | {"name": version}


def test_nothing_abstract_is_left(report):
    assert report["abstract"] == []


def test_every_override_takes_what_vllm_passes(report):
    assert report["misfits"] == []


def test_the_adapter_takes_every_call_of_the_wrapper(report):
    assert report["wrapper"] == []


def test_features_are_found_where_they_are(report):
    lacks = {name for name, there in report["features"].items() if not there}
    assert lacks == LACKS[report["name"]]


def test_what_is_decided_at_run_time_is_what_the_sources_say(report):
    for name, there in report["compat"].items():
        assert there is report["features"][name], name


def test_tokens_of_a_state():
    assert compat.tokens_per_state(types.SimpleNamespace(tokens_per_state=4)) == 4
    assert compat.tokens_per_state(types.SimpleNamespace(compress_ratio=4)) == 4
    assert compat.tokens_per_state(types.SimpleNamespace()) == 1


def test_bytes_of_a_page():
    every = {"unpadded_page_size_bytes": 3, "real_page_size_bytes": 4, "page_size_bytes": 5}
    for name, size in every.items():
        rest = {other: value for other, value in every.items() if value >= size}
        assert compat.page_bytes(types.SimpleNamespace(**rest)) == every[name]
    with pytest.raises(AttributeError, match="how large a page is"):
        compat.page_bytes(types.SimpleNamespace())


def test_details_of_a_page_that_nobody_knows():
    assert compat.page_details(types.SimpleNamespace(num_head_slots=2)) == {
        "quant_mode": "None",
        "head_slots": 2,
        "state_bytes": None,
    }


def test_layout():
    assert compat.layout_name(types.SimpleNamespace(kv_cache_layout="LBHNC")) == "LBHNC"
    assert compat.layout_name(types.SimpleNamespace())  # asked of the process, if it knows


@pytest.mark.parametrize(("told", "replicas"), [({}, 1), ({"kv_tp_replicas": 2}, 2)])
def test_replicas(told, replicas):
    assert compat.tensor_parallel_replicas(types.SimpleNamespace(**told)) == replicas


def test_a_page_format_that_vllm_does_not_tell_is_this_machines(monkeypatch):
    monkeypatch.setattr(compat, "_module", lambda name: None)
    config = types.SimpleNamespace(
        model_config=types.SimpleNamespace(dtype=None),
        cache_config=types.SimpleNamespace(cache_dtype="auto"),
    )
    spec = types.SimpleNamespace(block_size=16, head_size=64)
    assert compat.cpu_page_format(config, spec).startswith("unknown ")
    assert compat.hit_source("HOST") is None


def test_requests_and_batches():
    nothing = types.SimpleNamespace()
    assert compat.in_flight_tokens(nothing) == 0
    assert compat.in_flight_tokens(types.SimpleNamespace(num_in_flight_tokens=3)) == 3
    assert compat.reads_prefix_cache(nothing)
    assert not compat.reads_prefix_cache(types.SimpleNamespace(skip_reading_prefix_cache=True))
    assert compat.concurrent_batches(nothing) == 2
    assert compat.concurrent_batches(types.SimpleNamespace(max_concurrent_batches=1)) == 1


def step(new=(), cached=(), resumed=(), finished=()):
    """A step's output as vLLM 0.28 makes it."""
    return types.SimpleNamespace(
        finished_req_ids=set(finished),
        scheduled_new_reqs=[types.SimpleNamespace(req_id=r, block_ids=b) for r, b in new],
        scheduled_cached_reqs=types.SimpleNamespace(
            req_ids=[r for r, _ in cached],
            new_block_ids=[b for _, b in cached],
            resumed_req_ids=set(resumed),
        ),
    )


def test_tables_that_come_with_a_step_are_taken():
    offered = object()
    assert (
        compat.BlockTables().of(types.SimpleNamespace(kv_connector_block_state=offered)) is offered
    )


def test_tables_are_kept_where_a_step_names_only_what_is_new():
    tables, named = compat.BlockTables(), ([1, 2], [7])
    assert tables.of(step(new=[("a", named)])).get_block_ids("a") == ([1, 2], [7])
    tables.of(step(cached=[("a", ([3], []))]))
    tables.of(step(cached=[("a", None)]))
    assert tables.get_block_ids("a") == ([1, 2, 3], [7])
    assert named == ([1, 2], [7])  # vLLM's own lists stay as they are
    tables.of(step(cached=[("a", ([9], [8]))], resumed=["a"]))
    assert tables.get_block_ids("a") == ([9], [8])
    assert tables.of(step(finished=["a"])).get_block_ids("a") is None
