# SPDX-License-Identifier: Apache-2.0
"""Token ids give the same keys, whatever they come in."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from lmcache import _native

IDS = [0, 1, 2**31 - 1, 5, 70_000, 3, 9]
ROOT = bytes(range(32))


def keys_of(tokens: Any) -> list[bytes]:
    prompt = _native.Prompt(ROOT, 2)
    prompt.append(tokens)
    assert prompt.token_count == len(IDS)
    return [prompt.key(chunk) for chunk in range(prompt.chunk_count)] + [prompt.tail_key(3, 7)]


@pytest.mark.parametrize(
    "tokens",
    [
        tuple(IDS),
        np.array(IDS, np.int32),
        np.array(IDS, np.uint32),
        np.array(IDS, np.int64),
        np.array(IDS, np.uint64),
        np.array([IDS, IDS], np.int32).T[:, 0],
        np.array(IDS, np.int32)[::-1].copy()[::-1],
        np.array(IDS, np.uint32)[::-1].copy()[::-1],
        array.array("i", IDS),
        array.array("q", IDS),
        np.frombuffer(b"x" + np.array(IDS, np.int32).tobytes(), np.int32, offset=1),
    ],
)
def test_equal_ids_give_equal_keys(tokens: Any) -> None:
    assert keys_of(tokens) == keys_of(IDS)


def test_pieces_add_up() -> None:
    prompt = _native.Prompt(ROOT, 2)
    prompt.append(IDS[:3])
    prompt.append(np.array(IDS[3:6], np.int32))
    prompt.append([])
    prompt.append((IDS[6],))
    assert [prompt.key(0), prompt.key(1), prompt.key(2), prompt.tail_key(3, 7)] == keys_of(IDS)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32, np.uint64, list])
@pytest.mark.parametrize("stride", [1, -1])
def test_a_wrong_id_is_named_and_changes_nothing(kind: Any, stride: int) -> None:
    prompt = _native.Prompt(ROOT, 2)
    prompt.append(IDS[:3])
    signed = kind in (np.int32, np.int64, list)
    wrong = -5 if signed else 2**31 + 7
    tokens = [1, 2, wrong, 3]
    given = tokens if kind is list else np.array(tokens, kind)[::stride]
    position = 2 if stride == 1 or kind is list else 1
    with pytest.raises(ValueError, match=f"token id {wrong} at position {position}: "):
        prompt.append(given)
    assert prompt.token_count == 3


def test_a_root_of_another_length() -> None:
    with pytest.raises(ValueError, match="root has 5 bytes: 32 are needed"):
        _native.Prompt(b"short", 2)
