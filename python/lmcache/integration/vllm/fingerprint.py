# SPDX-License-Identifier: Apache-2.0
"""Identity of weights: what two copies of one model agree on, and two models never do.

KV may be shared only between engines that hold the same weights. A hub revision says so by name; a
local folder says so by its contents, since two fine-tunes of one model have the same file names,
the same sizes and the same configuration. Reading 100 GB to find out would be dearer than the
prefill it saves, so the contents are sampled: `SAMPLES` spots over all files, at places that depend
on nothing but the sizes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# 4,096 spots of 64 bytes: 40 ms from the page cache, under a second from a cold NVMe disk. A
# fine-tune changes nearly every weight; one that changes a single layer of 80 still meets some 50
# spots.
SAMPLES = 4096
SAMPLE_BYTES = 64

_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".npz"})
# What a configuration says about itself rather than about the model.
_VOLATILE = frozenset({"_name_or_path", "_commit_hash", "transformers_version"})


def config_text(config: Mapping[str, Any]) -> str:
    """Return a model configuration as JSON that is equal for equal models, on every machine."""
    kept = {key: value for key, value in config.items() if key not in _VOLATILE}
    return json.dumps(kept, sort_keys=True, default=str)


def digest(*parts: str) -> str:
    """Return a short hash of some texts, each delimited, so that no two lists of texts collide by
    joining.
    """
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:32]


def weights_fingerprint(path: Path) -> str:
    """Return the fingerprint of the weight files in a folder (or of one file).

    Equal for two copies of a model, whatever their folder is called or when they were written.
    Raises OSError when a file cannot be read.
    """
    state = hashlib.sha256()
    files = _weight_files(path)
    total = sum(size for _, size in files)
    # An odd stride meets every residue of any power of two, so samples do not line up with tensor
    # rows.
    stride = max(SAMPLE_BYTES, total // SAMPLES) | 1
    for file, size in files:
        state.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            for offset in _spots(size, stride):
                stream.seek(offset)
                state.update(stream.read(SAMPLE_BYTES))
    return state.hexdigest()[:32]


def _weight_files(path: Path) -> list[tuple[Path, int]]:
    """Return the weight files with their sizes, in the order of their names."""
    if path.is_file():
        return [(path, path.stat().st_size)]
    found = [
        entry for entry in path.iterdir() if entry.suffix in _WEIGHT_SUFFIXES and entry.is_file()
    ]
    return sorted(((entry, entry.stat().st_size) for entry in found), key=lambda item: item[0].name)


def _spots(size: int, stride: int) -> Iterator[int]:
    """Yield the offsets to sample in a file: its head (formats keep their index there) and every
    stride.
    """
    yield from range(0, max(size, 1), stride)


def adapter_identity(name: str, path: str) -> str:
    """Return what names a LoRA adapter: its name and, where its folder can be read, its weights.

    A name alone would let an adapter that was retrained under the same name read the old one's KV.
    """
    folder = Path(path)
    try:
        return f"{name}@{weights_fingerprint(folder)}" if folder.exists() else f"{name}@{path}"
    except OSError:
        return f"{name}@{path}"
