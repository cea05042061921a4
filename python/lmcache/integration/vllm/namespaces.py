# SPDX-License-Identifier: Apache-2.0
"""The namespaces one engine uses: the plain one, and one per LoRA adapter and cache salt."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lmcache.integration.vllm.fingerprint import adapter_identity

if TYPE_CHECKING:
    from lmcache import _native
    from lmcache.integration.vllm.attachment import Attachment

# A server may see a new salt per user. Forgetting one costs a look at the segment's table, nothing
# else.
_REMEMBERED = 4096


class Namespaces:
    """One thread: the scheduler's."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._open: OrderedDict[tuple[str, str], _native.Namespace] = OrderedDict()
        self._adapters: dict[tuple[str, str], str] = {}
        self._epoch = ""

    def of(self, request: Any) -> _native.Namespace | None:
        """Return the namespace of a request; None until every rank has said how large its blocks
        are.
        """
        key = (self._adapter(request.lora_request), str(request.cache_salt or ""))
        namespace = self._open.get(key)
        if namespace is not None:
            self._open.move_to_end(key)
            return namespace
        engine = self._attachment.engine
        lane_bytes = engine.lane_block_bytes(self._attachment.namespace)
        if 0 in lane_bytes:
            return None
        namespace = self._attachment.open_namespace(*key, self._epoch)
        for lane, block_bytes in enumerate(lane_bytes):
            engine.declare_lane(namespace, lane, block_bytes)
        self._open[key] = namespace
        if len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        return namespace

    def renew(self) -> list[_native.Namespace]:
        """Use other namespaces from now on, which no other engine has; return those used so far.

        For weights that were replaced in memory: what names them still says what the files hold.
        """
        used = list(self._open.values())
        self._open.clear()
        self._adapters.clear()
        self._epoch = f" epoch {uuid.uuid4().hex}"
        return used

    def _adapter(self, lora: Any) -> str:
        """Name an adapter by its name and its weights; these are read once, unless it says that it
        changed.
        """
        if lora is None:
            return ""
        key = (str(lora.lora_name), str(lora.lora_path))
        if key not in self._adapters or getattr(lora, "load_inplace", False):
            self._adapters[key] = adapter_identity(*key)
        return self._adapters[key]
