# SPDX-License-Identifier: Apache-2.0
"""Released versions of vLLM, for real: identical answers, and the second one out of the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import released_vllm

SCRIPT = Path(released_vllm.__file__).parent / "llm_of_version.py"
OURS = {
    "kv_connector": "LMCacheConnector",
    "kv_connector_module_path": "lmcache.integration.vllm.connector",
}


@pytest.mark.parametrize("door", [OURS, {"kv_connector": "LMCacheConnectorV1"}], ids=["ours", "V1"])
@pytest.mark.parametrize("version", released_vllm.VERSIONS)
def test_a_released_vllm_hits(tiny_model, version, door):
    try:
        env = released_vllm.environment(version)
    except released_vllm.NotThereError as error:
        if released_vllm.is_demanded():
            raise
        pytest.skip(str(error))
    settings = {"lmcache.segment": "private", "lmcache.max_local_cpu_size": 0.2}
    transfer = {**door, "kv_role": "kv_both", "kv_connector_extra_config": settings}
    done = subprocess.run(
        [sys.executable, SCRIPT, tiny_model, json.dumps(transfer)],
        env=env | {"PYTHONPATH": f"{env['PYTHONPATH']}:{SCRIPT.parent}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["version"].startswith(version)
    assert told["wrong"] == ["", ""]
    assert told["cached"] == [0, 299]
