# SPDX-License-Identifier: Apache-2.0
"""Recomputes tests/data/key_vectors.txt with hashlib, and holds the native module against it.

The C++ tests (tests/cpp/key) read the same file, so the three agree or one of them goes red.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

VECTORS = Path(__file__).parent.parent / "data" / "key_vectors.txt"


@dataclass
class Case:
    kind: str
    name: str
    text: dict[str, str] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    items: list[tuple[int, int, bytes]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    tails: list[tuple[int, int, bytes]] = field(default_factory=list)
    lanes: list[tuple[int, int, int, bytes]] = field(default_factory=list)


def read_cases() -> list[Case]:
    cases: list[Case] = []
    for line in VECTORS.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word in ("namespace", "chain"):
            cases.append(Case(word, rest))
            continue
        case, parts = cases[-1], rest.split()
        if word == "tokens":
            case.tokens += map(int, parts)
        elif word == "item":
            case.items.append((int(parts[0]), int(parts[1]), bytes.fromhex(parts[2])))
        elif word == "key":
            case.keys.append(bytes.fromhex(parts[0]))
        elif word == "tail":
            case.tails.append((int(parts[0]), int(parts[1]), bytes.fromhex(parts[2])))
        elif word == "lane":
            group, rank, size = map(int, parts[:3])
            case.lanes.append((group, rank, size, bytes.fromhex(parts[3])))
        else:
            case.text[word] = rest
    return cases


def le32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def prefixed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def chunk_key(parent: bytes, case: Case, first: int, end: int) -> bytes:
    data = parent + le32(*case.tokens[first:end])
    inside = [i for i in case.items if i[0] < end and i[0] + i[1] > first]
    if inside:
        data += le32(0xFFFFFFFF)
    for start, count, item_hash in inside:
        a, b = max(start, first), min(start + count, end)
        data += le32(a - first, b - a, a - start) + item_hash
    return sha256(data)


def chain_keys(root: bytes, case: Case, chunk_tokens: int) -> list[bytes]:
    keys: list[bytes] = []
    for first in range(0, len(case.tokens) // chunk_tokens * chunk_tokens, chunk_tokens):
        keys.append(chunk_key(keys[-1] if keys else root, case, first, first + chunk_tokens))
    return keys


def namespace_root(text: dict[str, str], geometry_hash: bytes) -> bytes:
    data = (
        prefixed("lmcache-namespace")
        + le32(1)
        + prefixed(text["model"])
        + prefixed(text["revision"])
    )
    data += geometry_hash + le32(int(text["chunk_tokens"]), int(text["world_size"]))
    return sha256(data + prefixed(text["lora"]) + prefixed(text["salt"]) + prefixed(text["extra"]))


def geometry_hash(
    dtype: str, layout: str, groups: list[tuple[int, int, list[int], list[str]]], details: str
) -> bytes:
    data = (
        prefixed("lmcache-geometry")
        + le32(1)
        + prefixed(dtype)
        + prefixed(layout)
        + le32(len(groups))
    )
    for block_tokens, window, planes, layers in groups:
        data += le32(block_tokens, window, len(planes)) + struct.pack(f"<{len(planes)}Q", *planes)
        data += le32(len(layers)) + b"".join(map(prefixed, layers))
    return sha256(data + prefixed(details))


CASES = read_cases()
CHAINS = [c for c in CASES if c.kind == "chain"]
NAMESPACES = [c for c in CASES if c.kind == "namespace"]


def test_file_holds_cases() -> None:
    assert len(CHAINS) >= 5
    assert len(NAMESPACES) >= 3


@pytest.mark.parametrize("case", CHAINS, ids=lambda c: c.name)
def test_chain(case: Case) -> None:
    root, chunk_tokens = bytes.fromhex(case.text["root"]), int(case.text["chunk_tokens"])
    assert chain_keys(root, case, chunk_tokens) == case.keys
    for chunk, end, expected in case.tails:
        parent = case.keys[chunk - 1] if chunk else root
        assert chunk_key(parent, case, chunk * chunk_tokens, end) == expected


@pytest.mark.parametrize("case", NAMESPACES, ids=lambda c: c.name)
def test_namespace(case: Case) -> None:
    root = namespace_root(case.text, bytes.fromhex(case.text["geometry_hash"]))
    assert root.hex() == case.text["root"]
    for group, rank, size, expected in case.lanes:
        assert sha256(b"lmcache-lane" + root + le32(group, rank, size)) == expected


def test_geometry() -> None:
    # The constant of tests/cpp/layout/kv_geometry_test.cpp.
    groups = [(128, 0, [98304, 98304], ["layers.0", "layers.1"]), (64, 4096, [512], [])]
    digest = geometry_hash("float32", "LBHNC", groups, "cpu vec")
    assert digest.hex() == "1793c63fe5588a53d889a06c9847260ef627b09ffa66e39e8e4f0c1382abd07b"


@pytest.mark.parametrize("case", CHAINS, ids=lambda c: c.name)
def test_native_prompt_has_these_keys(case: Case) -> None:
    native = pytest.importorskip("lmcache._native", reason="the native module is not built")
    chunk_tokens = int(case.text["chunk_tokens"])
    geometry = native.KvGeometry("float32", "plain", [native.KvGroup(1, [64])])
    spec = native.NamespaceSpec("model", "main", geometry, chunk_tokens, salt="tenant")
    text = {"model": "model", "revision": "main", "lora": "", "salt": "tenant", "extra": ""}
    text |= {"chunk_tokens": str(chunk_tokens), "world_size": "1"}
    root = namespace_root(text, geometry_hash("float32", "plain", [(1, 0, [64], [])], ""))
    assert spec.root() == root

    options = native.EngineOptions(segment="private", capacity_bytes=64 << 20)
    engine = native.Engine.open(options, lambda level, line: None)
    try:
        prompt = engine.new_prompt(engine.open_namespace(spec))
        for offset, length, item_hash in case.items:
            prompt.add_item(offset, length, item_hash)
        for first in range(0, len(case.tokens), 7):  # in pieces, as decoding does
            prompt.append(case.tokens[first : first + 7])
        keys = chain_keys(root, case, chunk_tokens)
        assert prompt.chunk_count == len(keys)
        assert [prompt.key(i) for i in range(len(keys))] == keys
    finally:
        engine.close()
