# SPDX-License-Identifier: Apache-2.0
"""Engines that compute the same KV are one model; whatever changes the KV makes another of it."""

from __future__ import annotations

import types

import pytest

from lmcache.integration.vllm.model_identity import model_identity

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubConfig:
    """What is read of a model's own configuration."""

    def __init__(self, commit=None, **settings):
        self._commit_hash = commit
        self._settings = {"hidden_size": 64, **settings}

    def to_dict(self):
        return self._settings


def vllm_config(source="owner/model", *, commit=None, settings=None, **changes):
    """Return what is read of vLLM's configuration."""
    of_model = {
        "model": str(source),
        "revision": None,
        "seed": 0,
        "dtype": "torch.bfloat16",
        "quantization": None,
        "max_model_len": 4096,
        "hf_config": HubConfig(commit, **(settings or {})),
    }
    others = {"load_format": "auto", "speculative_config": None}
    for name, value in changes.items():
        (others if name in others else of_model)[name] = value
    return types.SimpleNamespace(
        model_config=types.SimpleNamespace(**of_model),
        load_config=types.SimpleNamespace(load_format=others["load_format"]),
        speculative_config=others["speculative_config"],
    )


def test_a_snapshot_of_a_hub_is_its_repository_and_commit():
    path = f"/cache/hub/models--owner--my--model/snapshots/{COMMIT}"
    identity = model_identity(vllm_config(path))
    assert (identity.name, identity.revision) == ("owner/my--model", COMMIT)
    elsewhere = vllm_config("/other" + path + "/")
    assert model_identity(elsewhere) == identity


def test_a_folder_is_its_name_and_its_weights(tmp_path):
    for name, weights in {"a": b"one", "b": b"two", "copies/a": b"one"}.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    first = model_identity(vllm_config(tmp_path / "a"))
    assert first.name == "a"
    assert model_identity(vllm_config(tmp_path / "copies" / "a")) == first
    assert model_identity(vllm_config(tmp_path / "b")).revision != first.revision
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert model_identity(vllm_config(tmp_path / "link")) == first


@pytest.mark.parametrize(
    ("settings", "revision"),
    [
        ({}, "main"),
        ({"revision": "v2"}, "v2"),
        ({"revision": "v2", "commit": COMMIT}, COMMIT),  # a branch moves, its commit does not
    ],
)
def test_a_name_on_a_hub_takes_the_best_revision_there_is(settings, revision):
    identity = model_identity(vllm_config(**settings))
    assert (identity.name, identity.revision) == ("owner/model", revision)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "torch.float16"},
        {"quantization": "awq"},
        {"settings": {"hidden_size": 65}},
        {"load_format": "dummy"},
        {"speculative_config": types.SimpleNamespace(method="eagle", model="draft")},
    ],
)
def test_what_changes_the_kv_changes_the_identity(change):
    assert model_identity(vllm_config(**change)) != model_identity(vllm_config())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 7},  # of sampling, where weights come from files
        {"max_model_len": 8192},
        {"load_format": "safetensors"},
        {"settings": {"transformers_version": "9"}},
    ],
)
def test_what_does_not_change_the_kv_is_left_out(change):
    assert model_identity(vllm_config(**change)) == model_identity(vllm_config())


@pytest.mark.parametrize("load_format", ["dummy", "LoadFormat.DUMMY"])
def test_random_weights_are_their_seed(load_format):
    first, second = (vllm_config(load_format=load_format, seed=seed) for seed in (1, 2))
    assert model_identity(first) != model_identity(second)
    assert model_identity(first) == model_identity(vllm_config(load_format=load_format, seed=1))


@pytest.mark.parametrize(
    ("rope", "differs"),
    [
        ({"rope_type": "longrope"}, True),
        ({"type": "su"}, True),
        ({"rope_type": "dynamic"}, True),
        ({"rope_type": "yarn"}, False),
    ],
)
def test_the_longest_sequence_counts_where_rotation_depends_on_it(rope, differs):
    settings = {"rope_scaling": rope}
    short = model_identity(vllm_config(settings=settings, max_model_len=4096))
    long = model_identity(vllm_config(settings=settings, max_model_len=8192))
    assert (short != long) is differs


def test_draft_models_are_told_apart():
    drafts = [types.SimpleNamespace(method="eagle", model=name) for name in ("a", "b")]
    first, second = (model_identity(vllm_config(speculative_config=draft)) for draft in drafts)
    assert first != second
    ngram = types.SimpleNamespace(method="ngram")  # drafts without a model
    assert "ngram" in model_identity(vllm_config(speculative_config=ngram)).extra
