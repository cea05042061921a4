# SPDX-License-Identifier: Apache-2.0
"""What happens to a request whose KV cannot be loaded: the user's choice, else a recomputation.

vLLM's `kv_load_failure_policy` is `fail` unless it is set: the request ends with an error. That
suits KV that exists nowhere else. A cache only loses time, so with us the default is `recompute`.
vLLM's configuration does not tell a default from the same value set by hand; so the plugin watches
where users write it, and leaves a mark. Imports neither vLLM nor torch.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from typing import Any

_SETTING = "kv_load_failure_policy"
_MARK = "_lmcache_failure_policy_chosen"
_FLAG = "--kv-transfer-config"


def watch_class(cls: Any) -> None:
    """See what `KVTransferConfig(...)` is called with, once."""
    original = cls.__init__
    if getattr(original, _MARK, False):
        return

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **settings: Any) -> None:  # noqa: N807
        original(self, *args, **settings)
        if _SETTING in settings:
            _mark(self)

    setattr(__init__, _MARK, True)
    cls.__init__ = __init__


def watch_flag(parser: argparse.ArgumentParser) -> None:
    """See what `--kv-transfer-config` is given: from JSON text vLLM makes one without a call."""
    for action in parser._actions:
        if _FLAG in action.option_strings and callable(action.type):
            action.type = _watched(action.type)


def _watched(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    @functools.wraps(parse)
    def watched(text: str) -> Any:
        config = parse(text)
        if config is not None and _SETTING in json.loads(text):
            _mark(config)
        return config

    return watched


def _mark(config: Any) -> None:
    # Beside the fields: it goes with the object to vLLM's other processes, and into no hash.
    object.__setattr__(config, _MARK, True)


def is_chosen(config: Any) -> bool:
    """Tell whether the user set the policy of a `KVTransferConfig`."""
    return bool(getattr(config, _MARK, False))


def settle_policy(config: Any) -> str:
    """Return the policy that vLLM follows from now on. Called before its scheduler reads it."""
    if not is_chosen(config):
        setattr(config, _SETTING, "recompute")
    return str(getattr(config, _SETTING))
