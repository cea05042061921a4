# SPDX-License-Identifier: Apache-2.0
"""What a specification of vLLM says about the pages of a layer, as text: equal only if the pages
may be exchanged.
"""

from __future__ import annotations

import json
from typing import Any

from lmcache.integration.vllm import compat


def dtype_text(spec: Any) -> str:
    """Return the element types of a page; states may have several."""
    dtypes = getattr(spec, "dtypes", None) or [spec.dtype]
    return "+".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))


def spec_text(spec: Any) -> str:
    """Return all else that decides what a page holds, as JSON."""
    if type(spec).__name__ == "MambaSpec":
        return json.dumps(
            {
                "spec": "MambaSpec",
                "kind": str(spec.mamba_type),
                "shapes": spec.shapes,
                "dtypes": dtype_text(spec),
            },
            sort_keys=True,
        )
    fields = {
        "spec": type(spec).__name__,
        "kv_heads": spec.num_kv_heads,
        "head_size": spec.head_size,
        "head_size_v": spec.head_size_v,
        **compat.page_details(spec),
        "window": getattr(spec, "sliding_window", None),
        "attention_chunk": getattr(spec, "attention_chunk_size", None),
    }
    return json.dumps(fields, sort_keys=True, default=str)
