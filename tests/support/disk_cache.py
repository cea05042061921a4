# SPDX-License-Identifier: Apache-2.0
"""A small disk cache with chunks in it, and damage to it."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from lmcache import _native

PAYLOAD_BYTES = 200_000
SLOT_BYTES = 200_704  # with the header, in whole pages


def keys_of(chunks: int, seed: int = 0) -> bytes:
    """Return the keys of as many chunks."""
    return np.random.default_rng(seed).bytes(32 * chunks)


def open_volume(*folders: Path | str, limit_bytes: int = 64 << 20) -> _native.DiskVolume:
    """Open a disk cache, or make it."""
    paths = [str(folder) for folder in folders]
    return _native.DiskVolume.open(
        paths, lambda _level, _text: None, limit_bytes=limit_bytes, existing_only=False
    )


def write_chunks(volume: _native.DiskVolume, chunks: int, seed: int = 0) -> bytes:
    """Write chunks into a disk cache; return their keys."""
    memory = mmap.mmap(-1, chunks * SLOT_BYTES)
    memory[:] = np.random.default_rng(seed).bytes(len(memory))
    keys = keys_of(chunks, seed)
    assert volume.write(keys, memory, SLOT_BYTES, PAYLOAD_BYTES) == chunks
    return keys


def make_cache(folder: Path | str, chunks: int = 10) -> bytes:
    """Make a disk cache that nobody uses; return the keys of its chunks."""
    volume = open_volume(folder)
    return write_chunks(volume, chunks)


def damage_slabs(folder: Path, at: int) -> None:
    """Change a byte at this offset of every slab."""
    for slab in folder.glob("slab-*"):
        with slab.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0x5A]))
