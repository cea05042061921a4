# SPDX-License-Identifier: Apache-2.0
"""The plugin on a stand-in for vLLM's argument classes: what it adds, and that it never gets in the
way.
"""

from __future__ import annotations

import argparse
import logging
import sys
import types
from dataclasses import dataclass, fields

import pytest

from lmcache.errors import ConfigError
from lmcache.integration.vllm import plugin


def make_arguments_module() -> types.ModuleType:
    """Return a module like `vllm.engine.arg_utils`."""

    @dataclass
    class EngineArgs:
        model: str = "m"
        kv_transfer_config: object = None
        kv_offloading_size: float | None = None

        def create_engine_config(self):
            return self.kv_transfer_config

        @staticmethod
        def add_cli_args(parser):
            parser.add_argument("--model")
            return parser

        @classmethod
        def from_cli_args(cls, args):
            names = [field.name for field in fields(cls)]
            return cls(**{name: getattr(args, name) for name in names if hasattr(args, name)})

    @dataclass
    class AsyncEngineArgs(EngineArgs):
        log_requests: bool = False

    module = types.ModuleType("vllm.engine.arg_utils")
    module.EngineArgs, module.AsyncEngineArgs = EngineArgs, AsyncEngineArgs
    return module


@pytest.fixture
def arguments(monkeypatch):
    """A vLLM as the plugin finds it, with nothing in the environment."""
    for name in ("VLLM_ENABLE_LMCACHE", "ENABLE_LMCACHE"):
        monkeypatch.delenv(name, raising=False)
    module = make_arguments_module()
    config = types.ModuleType("vllm.config")
    config.KVTransferConfig = lambda **settings: types.SimpleNamespace(**settings)
    for name, value in {
        "vllm": types.ModuleType("vllm"),
        "vllm.engine": types.ModuleType("vllm.engine"),
        "vllm.engine.arg_utils": module,
        "vllm.config": config,
    }.items():
        monkeypatch.setitem(sys.modules, name, value)
    plugin.register()
    return module


def test_nothing_changes_unless_asked_for(arguments):
    assert arguments.EngineArgs(model="x").create_engine_config() is None


@pytest.mark.parametrize("name", ["EngineArgs", "AsyncEngineArgs"])
def test_keyword_arguments(arguments, name):
    made = getattr(arguments, name)("x", enable_lmcache=True, lmcache_config={"chunk_size": 64})
    transfer = made.create_engine_config()
    assert made.model == "x"
    assert transfer.kv_connector_module_path == "lmcache.integration.vllm.connector"
    assert transfer.kv_connector_extra_config == {"lmcache.chunk_size": 64}
    assert made.create_engine_config() is transfer  # vLLM asks more than once


def test_environment(arguments, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_LMCACHE", "true")
    assert arguments.EngineArgs().create_engine_config().kv_connector == "LMCacheConnector"
    assert arguments.EngineArgs(enable_lmcache=False).create_engine_config() is None


def test_flags(arguments):
    parser = arguments.EngineArgs.add_cli_args(argparse.ArgumentParser())
    args = parser.parse_args(["--enable-lmcache", "--lmcache-config", '{"chunk_size": 64}'])
    made = arguments.AsyncEngineArgs.from_cli_args(args)
    assert isinstance(made, arguments.AsyncEngineArgs)
    assert made.create_engine_config().kv_connector_extra_config == {"lmcache.chunk_size": 64}
    args = parser.parse_args([])
    assert arguments.EngineArgs.from_cli_args(args).create_engine_config() is None


def test_a_connector_of_the_user_is_kept(arguments):
    mine = object()
    made = arguments.EngineArgs(kv_transfer_config=mine, enable_lmcache=True)
    assert made.create_engine_config() is mine
    made = arguments.EngineArgs(kv_offloading_size=1.0, enable_lmcache=True)
    assert made.create_engine_config() is None  # vLLM makes it itself


def test_a_wrong_setting_ends_the_start(arguments):
    made = arguments.EngineArgs(enable_lmcache=True, lmcache_config={"chunk_sice": 64})
    with pytest.raises(ConfigError, match="chunk_size"):
        made.create_engine_config()


def test_registering_twice_does_nothing_more(arguments):
    before = arguments.EngineArgs.__init__
    plugin.register()
    assert arguments.EngineArgs.__init__ is before


def test_an_unknown_vllm_is_left_alone_and_says_so(arguments, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", types.ModuleType("empty"))
    with caplog.at_level(logging.WARNING, "vllm.lmcache"):
        plugin.register()
    assert caplog.messages[0].startswith("LMCache: this vLLM is unknown")


def test_a_connector_vllm_does_not_take_is_not_used(arguments, monkeypatch, caplog):
    def refuse(**settings):
        raise TypeError("unknown argument")

    monkeypatch.setattr(sys.modules["vllm.config"], "KVTransferConfig", refuse)
    with caplog.at_level(logging.WARNING, "vllm.lmcache"):
        assert arguments.EngineArgs(enable_lmcache=True).create_engine_config() is None
    assert "runs without the cache" in caplog.text


def test_platform_hook_waits_for_the_module(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(plugin, "_ARGUMENTS_MODULE", "late_arguments")
    monkeypatch.setattr(plugin, "register", lambda: calls.append("late_arguments" in sys.modules))
    others = [finder for finder in sys.meta_path if not isinstance(finder, plugin._AfterImport)]
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late_arguments.py").write_text("class AsyncEngineArgs: ...\n")
    assert plugin.platform_hook() is None
    assert plugin.platform_hook() is None  # vLLM may ask twice
    assert calls == []
    __import__("late_arguments")
    assert calls == [True]
    plugin.platform_hook()
    assert calls == [True, True]  # the module is there: at once
    del sys.modules["late_arguments"]


def test_importing_the_plugin_is_light():
    code = (
        "import sys, lmcache.integration.vllm.plugin\n"
        "heavy = {'torch', 'vllm', 'numba', 'llvmlite'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True)
