# SPDX-License-Identifier: Apache-2.0
"""One namespace per adapter and salt, with the lanes of the plain one."""

from __future__ import annotations

import types

import pytest
from serving_loop import Request

from lmcache.integration.vllm import namespaces
from lmcache.integration.vllm.namespaces import Namespaces


class Attachment:
    """Opens namespaces and remembers which."""

    namespace = "plain"

    def __init__(self, lane_bytes):
        self.lane_bytes = lane_bytes
        self.opened, self.declared = [], []
        self.engine = self

    def open_namespace(self, *key):
        self.opened.append(key)
        return f"space{len(self.opened)}"

    def lane_block_bytes(self, namespace):
        assert namespace == "plain"
        return self.lane_bytes

    def declare_lane(self, namespace, lane, block_bytes):
        self.declared.append((namespace, lane, block_bytes))


def lora(name, path="/nowhere", **fields):
    return types.SimpleNamespace(lora_name=name, lora_path=path, **fields)


@pytest.fixture
def attachment():
    return Attachment([64, 64])


def test_lanes_are_inherited(attachment):
    assert Namespaces(attachment).of(Request("r", [1])) == "space1"
    assert attachment.declared == [("space1", 0, 64), ("space1", 1, 64)]


def test_nothing_before_every_rank_is_there():
    attachment = Attachment([64, 0])
    spaces = Namespaces(attachment)
    assert spaces.of(Request("r", [1])) is None
    attachment.lane_bytes = [64, 64]
    assert spaces.of(Request("r", [1])) == "space1"


def test_adapters_and_salts_are_apart_and_are_opened_once(attachment):
    spaces = Namespaces(attachment)
    requests = [
        Request("a", [1]),
        Request("b", [1], cache_salt="tenant"),
        Request("c", [1], lora_request=lora("sql")),
        Request("d", [1], lora_request=lora("poems")),
        Request("e", [1], lora_request=lora("sql"), cache_salt="tenant"),
    ]
    assert len({spaces.of(request) for request in requests}) == 5
    assert len({spaces.of(request) for request in requests}) == 5
    assert len(attachment.opened) == 5


def test_an_adapter_that_changes_in_place_is_read_again(attachment, tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(b"old")
    spaces = Namespaces(attachment)
    first = spaces.of(Request("a", [1], lora_request=lora("sql", str(tmp_path))))
    file.write_bytes(b"new")
    same = spaces.of(Request("b", [1], lora_request=lora("sql", str(tmp_path))))
    changed = lora("sql", str(tmp_path), load_inplace=True)
    assert first == same
    assert spaces.of(Request("c", [1], lora_request=changed)) != first


def test_renewed_namespaces_are_nobody_elses(attachment):
    spaces = Namespaces(attachment)
    old = spaces.of(Request("r", [1]))
    assert spaces.renew() == [old]
    assert spaces.of(Request("r", [1])) != old
    epochs = {key[2] for key in attachment.opened}
    assert "" in epochs
    assert len(epochs) == 2


def test_rarely_used_ones_are_forgotten(attachment, monkeypatch):
    monkeypatch.setattr(namespaces, "_REMEMBERED", 2)
    spaces = Namespaces(attachment)
    for salt in ("a", "b", "a", "c", "a"):
        spaces.of(Request("r", [1], cache_salt=salt))
    assert len(attachment.opened) == 3
    spaces.of(Request("r", [1], cache_salt="b"))
    assert len(attachment.opened) == 4
