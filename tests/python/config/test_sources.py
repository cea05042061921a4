# SPDX-License-Identifier: Apache-2.0
"""Reading each source: what counts as absent, and what a bad file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcache.config.sources import argument_layer, environment_layer, file_layer
from lmcache.errors import ConfigError


def _write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "lmcache.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_environment_leaves_out_what_is_no_setting() -> None:
    layer = environment_layer(
        {
            "PATH": "/bin",
            "LMCACHE_CHUNK_SIZE": "128",
            "LMCACHE_TTL": "  ",  # empty counts as absent
            "LMCACHE_CONFIG_FILE": "x.yaml",
            "LMCACHE_USE_UPSTREAM_MP": "1",
            "LMCACHE_DISABLE_BANNER": "1",
            "LMCACHE_PYTHON": "python3",
            "LMCACHE_VENV": "/venv",
            "LMCACHE_CUDA": "OFF",
            "LMCACHE_CUDA_ARCHITECTURES": "90",
            "LMCACHE_USE_EXPERIMENTAL": "True",
        }
    )
    assert [(setting.name, setting.value) for setting in layer.settings] == [("chunk_size", "128")]


def test_file_knows_its_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, "# a comment\nchunk_size: 128\n\nlocal_cpu: true\n")
    layer = file_layer(path)
    found = [(s.name, s.value, str(s.source)) for s in layer.settings]
    assert found == [("chunk_size", 128, f"{path}:2"), ("local_cpu", True, f"{path}:4")]


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_sets_nothing(tmp_path: Path, content: str | bytes) -> None:
    assert file_layer(_write(tmp_path, content)).settings == ()


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    path = _write(tmp_path, "x: &base {chunk_size: 64}\n<<: *base\n")
    assert ("chunk_size", 64) in [(s.name, s.value) for s in file_layer(path, "").settings]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("chunk_size: [1, 2\n", "not valid YAML"),
        ("chunk_size: 1\n\tlocal_cpu: 2\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("chunk_size: !!python/object:os.system {}\n", "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("- chunk_size\n- 256\n", "not a list of settings"),
        ("chunk_size\n", "not a list of settings"),
        ("256\n", "not a list of settings"),
        (b"\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = _write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        file_layer(path, "named by LMCACHE_CONFIG_FILE")
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        file_layer(tmp_path / "no.yaml", "named by LMCACHE_CONFIG_FILE")
    assert str(tmp_path / "no.yaml") in str(caught.value)
    assert "named by LMCACHE_CONFIG_FILE" in str(caught.value)
    assert "No such file" in str(caught.value)
    with pytest.raises(ConfigError, match="directory"):
        file_layer(tmp_path)


def test_a_key_that_is_not_text() -> None:
    with pytest.raises(ConfigError, match="key 3 is not text"):
        argument_layer({3: 4}, "lmcache_config")  # type: ignore[dict-item]
