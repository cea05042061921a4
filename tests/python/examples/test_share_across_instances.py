# SPDX-License-Identifier: Apache-2.0
"""examples/share_across_instances does what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis_server import INSTALLED, NOT_INSTALLED

SCRIPT = Path(__file__).parents[3] / "examples" / "share_across_instances" / "share.py"
PASSWORD = "open-sesame"


def share(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LMCACHE_")}
    return subprocess.run(
        [sys.executable, SCRIPT, "--tokens", "700", *arguments],
        env={**kept, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.multiprocess
@pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)
def test_with_a_server_of_its_own() -> None:
    done = share()
    assert done.returncode == 0, done.stderr
    assert re.search(r"first process: +computed 700 tokens, 11 MB of KV, in \d+ ms\n", done.stdout)
    assert re.search(r"second process: got 700 tokens of it .* in \d+ ms\n", done.stdout)
    assert done.stdout.endswith("every byte is the same\n")


@pytest.mark.multiprocess
def test_with_a_server_that_is_there(start_redis: Any) -> None:
    server = start_redis(password=PASSWORD)
    done = share("--url", server.url, LMCACHE_REMOTE_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert "got 700 tokens" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    # Three chunks, and none of them for long.
    left = [server.client().ttl(key) for key in server.chunks()]
    assert len(left) == 3
    assert all(0 < seconds <= 300 for seconds in left)


def test_an_address_that_is_none() -> None:
    done = share("--url", "foo://x")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a URL beginning with redis://" in done.stderr


def test_neither(tmp_path: Path) -> None:
    done = share(PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "no redis-server is installed: say --url\n"
