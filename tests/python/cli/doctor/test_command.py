# SPDX-License-Identifier: Apache-2.0
"""`lmcache doctor` as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lmcache.cli.doctor import command
from lmcache.cli.doctor.check import Check
from lmcache.integration.vllm.features import FEATURES

Run = Callable[..., Any]

NAMES = [
    "configuration", "native library", "shared memory", "memory", "memlock limit", "huge pages",
    "io_uring", "disk cache", "CPU", "CUDA", "pool in GPU memory", "vLLM", "vLLM features",
]  # fmt: skip


def test_on_this_machine(run: Run) -> None:
    done = run("doctor", "--json")
    told = json.loads(done.out)
    assert [check["name"] for check in told["checks"]] == NAMES
    failed = [check for check in told["checks"] if check["status"] == "fail"]
    assert told["ok"] == (not failed)
    assert done.status == (1 if failed else 0)
    for check in told["checks"]:
        assert check["found"]
        assert check["advice"] or check["status"] == "ok"


def test_features_of_vllm_are_named_for_people_and_for_programs(run: Run) -> None:
    pytest.importorskip("vllm", reason="its sources are read")
    told = json.loads(run("doctor", "--json").out)
    features = told["vllm"]["features"]
    assert set(features) == set(FEATURES)
    assert all(features.values())
    assert told["vllm"]["version"] in told["checks"][-1]["found"]
    for_people = " ".join(run("doctor").out.split())
    for name in ("hybrid memory allocator", "KV events", "EC connector"):
        assert name in for_people


def test_a_wrong_configuration_fails_and_the_rest_is_still_checked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMCACHE_CHUNK_SIZE", "x")
    done = run("doctor", "--json")
    checks = json.loads(done.out)["checks"]
    assert done.status == 1
    assert checks[0]["status"] == "fail"
    assert "LMCACHE_CHUNK_SIZE" in checks[0]["found"]
    assert len(checks) == len(NAMES)


def test_what_this_version_cannot_do_is_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMCACHE_CACHE_POLICY", "arc")
    check = json.loads(run("doctor", "--json").out)["checks"][0]
    assert (check["status"], "eviction_policy=arc" in check["found"]) == ("warn", True)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_status_and_table(
    run: Run, monkeypatch: pytest.MonkeyPatch, status: Any, code: int
) -> None:
    checks = [Check("thing", status, "found [it]", "do this")]
    monkeypatch.setattr(command, "run_checks", lambda: iter(checks))
    done = run("doctor")
    assert done.status == code
    assert done.out.split() == [status, "thing", "found", "[it]", "->", "do", "this"]
