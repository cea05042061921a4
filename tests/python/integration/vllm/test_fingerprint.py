# SPDX-License-Identifier: Apache-2.0
"""Copies of weights agree, and any other weights differ."""

from __future__ import annotations

import os

import pytest

from lmcache.integration.vllm.fingerprint import (
    SAMPLES,
    adapter_identity,
    config_text,
    digest,
    weights_fingerprint,
)


def write_model(folder, **files: bytes):
    folder.mkdir()
    for name, data in files.items():
        (folder / f"{name}.safetensors").write_bytes(data)
    (folder / "README.md").write_text(str(folder))  # no weights: not looked at
    return folder


def test_copies_agree_whatever_their_folder_and_dates(tmp_path):
    first = write_model(tmp_path / "a", one=b"x" * 1000, two=b"y" * 500)
    second = write_model(tmp_path / "b", two=b"y" * 500, one=b"x" * 1000)
    os.utime(second / "one.safetensors", (1, 1))
    assert weights_fingerprint(first) == weights_fingerprint(second)


@pytest.mark.parametrize(
    "other",
    [
        {"one": b"x" * 999 + b"z"},  # same size, another byte
        {"one": b"x" * 1001},
        {"two": b"x" * 1000},
        {"one": b"x" * 500, "two": b"x" * 500},
        {},
    ],
)
def test_other_weights_differ(tmp_path, other):
    model = write_model(tmp_path / "a", one=b"x" * 1000)
    assert weights_fingerprint(model) != weights_fingerprint(write_model(tmp_path / "b", **other))


def test_large_files_are_sampled_all_over(tmp_path):
    size = 64 * SAMPLES * 50  # a fiftieth of it is read
    data = bytearray(size)
    model = write_model(tmp_path / "a", one=bytes(data))
    before = weights_fingerprint(model)
    data[size // 3 : size // 3 + size // 80] = b"\1" * (size // 80)  # one layer of 80 was tuned
    (model / "one.safetensors").write_bytes(data)
    assert weights_fingerprint(model) != before


def test_a_single_file_is_a_model(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    before = weights_fingerprint(file)
    file.write_bytes(b"WEIGHTS")
    assert weights_fingerprint(file) != before


def test_config_text_knows_no_paths_and_no_order():
    first = {"rope": {"b": 1, "a": 2}, "_name_or_path": "/here", "transformers_version": "1"}
    second = {"transformers_version": "2", "rope": {"a": 2, "b": 1}}
    assert config_text(first) == config_text(second)
    assert config_text(first) != config_text({"rope": {"a": 2, "b": 2}})


def test_digest_does_not_join_its_parts():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest("ab")


def test_an_adapter_is_its_name_and_its_weights(tmp_path):
    folder = write_model(tmp_path / "a", adapter_model=b"old")
    old = adapter_identity("sql", str(folder))
    assert old.startswith("sql@")
    assert adapter_identity("poems", str(folder)) != old
    (folder / "adapter_model.safetensors").write_bytes(b"new")
    assert adapter_identity("sql", str(folder)) != old


def test_an_adapter_of_a_hub_is_its_name_and_place():
    assert adapter_identity("sql", "owner/adapter") == "sql@owner/adapter"
