# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmcache.bench.vllm_model import read_model
from lmcache.errors import InvalidArgumentError

LLAMA = {
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
}


def written(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_bytes_per_token(tmp_path: Path) -> None:
    facts = read_model(written(tmp_path, LLAMA))
    assert facts.token_bytes == 30 * 2 * 3 * 64 * 4
    assert facts.vocabulary == 49152


def test_head_size_that_is_not_the_quotient(tmp_path: Path) -> None:
    facts = read_model(written(tmp_path, {**LLAMA, "head_dim": 128}))
    assert facts.token_bytes == 30 * 2 * 3 * 128 * 4


def test_a_segment_holds_the_tokens_with_room_to_spare(tmp_path: Path) -> None:
    facts = read_model(written(tmp_path, LLAMA))
    assert facts.segment_gb(100_000) * 1e9 > 100_000 * facts.token_bytes * 1.2


@pytest.mark.parametrize("config", [{"vocab_size": 10}, [], {"num_attention_heads": None}])
def test_no_text_model(tmp_path: Path, config: object) -> None:
    with pytest.raises(InvalidArgumentError, match="does not describe a text model"):
        read_model(written(tmp_path, config))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no model there"):
        read_model(tmp_path / "missing")
