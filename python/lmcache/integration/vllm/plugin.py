# SPDX-License-Identifier: Apache-2.0
"""vLLM plugin: `LLM(enable_lmcache=True, lmcache_config={...})`, the same as flags of `vllm serve`,
and VLLM_ENABLE_LMCACHE (or ENABLE_LMCACHE) in the environment.

vLLM calls `register` in each of its processes, but only after the first `EngineArgs(...)` has bound
its keyword arguments; that is too late for ours. `platform_hook` is called while vLLM is being
imported, before `vllm.engine.arg_utils` is, so it waits for that module. It never is a platform.

Whatever of vLLM is not as it is known here is left alone, and said so in one line. This module is
imported with vLLM, so it imports neither vLLM nor torch itself.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import logging
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from lmcache.errors import ConfigError
from lmcache.integration.vllm.activation import connector_settings, is_wanted
from lmcache.integration.vllm.failure_policy import watch_class, watch_flag

log = logging.getLogger("vllm.lmcache")

_ARGUMENTS_MODULE = "vllm.engine.arg_utils"
_HOOKED = "_lmcache_hooked"


def platform_hook() -> None:
    """Entry point `vllm.platform_plugins`: see to it that `register` runs in time. Returns no
    platform.
    """
    module = sys.modules.get(_ARGUMENTS_MODULE)
    if module is not None and hasattr(module, "AsyncEngineArgs"):
        register()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(_ARGUMENTS_MODULE, register))


def register() -> None:
    """Entry point `vllm.general_plugins`: teach vLLM's `EngineArgs` to switch us on, once."""
    try:
        from vllm.config import KVTransferConfig
        from vllm.engine.arg_utils import EngineArgs

        if getattr(EngineArgs, _HOOKED, False):
            return
        for cls in (EngineArgs, *EngineArgs.__subclasses__()):
            _accept_arguments(cls)
        watch_class(KVTransferConfig)
        _wrap(EngineArgs, "create_engine_config", _with_connector)
        _wrap(EngineArgs, "add_cli_args", _with_flags)
        _wrap(EngineArgs, "from_cli_args", _with_flag_values)
        setattr(EngineArgs, _HOOKED, True)
    except Exception as error:
        log.warning(
            "LMCache: this vLLM is unknown to its plugin, use --kv-transfer-config instead: %s",
            error,
        )


def _accept_arguments(cls: Any) -> None:
    """Let a (data)class take two keyword arguments more; the inits of data classes do not chain."""
    original = cls.__init__

    @functools.wraps(original)
    def __init__(  # noqa: N807
        self: Any,
        *args: Any,
        enable_lmcache: bool | None = None,
        lmcache_config: Any = None,
        **settings: Any,
    ) -> None:
        self.enable_lmcache = enable_lmcache
        self.lmcache_config = lmcache_config
        original(self, *args, **settings)

    cls.__init__ = __init__


def _wrap(cls: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    """Replace a method, class method or static method, keeping its kind."""
    original = cls.__dict__[name]
    if isinstance(original, (staticmethod, classmethod)):
        setattr(cls, name, type(original)(wrapper(original.__func__)))
    else:
        setattr(cls, name, wrapper(original))


def _with_connector(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_engine_config(self: Any, *args: Any, **settings: Any) -> Any:
        explicit = getattr(self, "enable_lmcache", None)
        config = getattr(self, "lmcache_config", None)
        if is_wanted(explicit, config):
            _set_connector(self, config)
        return original(self, *args, **settings)

    return create_engine_config


def _set_connector(engine_args: Any, config: Any) -> None:
    """Give vLLM the connector, unless the user gave it one. A wrong setting is an error, nothing
    else is.
    """
    if getattr(engine_args, "kv_offloading_size", None) is not None:
        return  # vLLM makes the configuration itself
    if engine_args.kv_transfer_config is not None:
        return
    settings = connector_settings(config)
    try:
        from vllm.config import KVTransferConfig

        engine_args.kv_transfer_config = KVTransferConfig(**settings)
    except ConfigError:
        raise
    except Exception as error:
        log.warning(
            "LMCache: vLLM runs without the cache: it does not take the connector: %s", error
        )


def _with_flags(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def add_cli_args(parser: Any) -> Any:
        parser = original(parser)
        watch_flag(parser)
        group = parser.add_argument_group("LMCache")
        group.add_argument(
            "--enable-lmcache",
            action="store_true",
            default=None,
            help="Reuse KV out of the memory segment of this node.",
        )
        group.add_argument(
            "--lmcache-config",
            type=json.loads,
            default=None,
            metavar="JSON",
            help="Settings of LMCache as a JSON object; see `lmcache config schema`.",
        )
        return parser

    return add_cli_args


def _with_flag_values(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def from_cli_args(cls: Any, args: Any) -> Any:
        engine_args = original(cls, args)
        engine_args.enable_lmcache = getattr(args, "enable_lmcache", None)
        engine_args.lmcache_config = getattr(args, "lmcache_config", None)
        return engine_args

    return from_cli_args


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls `action` once, right after the module `name` has been imported."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            execute(module)
            self._action()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
