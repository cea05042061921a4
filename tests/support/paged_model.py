# SPDX-License-Identifier: Apache-2.0
"""A model with paged KV that has no weights: every output depends on every byte of KV it should
read.

KV of a token is a mix of its hidden state; a hidden state is a mix of itself and of the KV of all
tokens up to it, in every layer. So one wrong or missing page anywhere changes all that follows, as
in a real model, and what is right can be computed without pages. Ranks exchange their hidden states
after each layer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

VOCABULARY = 1000
# What tests serve with, unless they say otherwise.
LAYERS, BLOCK, CHUNK = 2, 8, 32


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers, so that equal sums of different numbers do not pass for equal."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


class PagedModel:
    """`world` ranks of `layers` layers, each with the KV of `blocks` blocks of `block_tokens`
    tokens.

    `width` is the number of 8-byte words of KV per token, layer and rank.
    """

    def __init__(
        self, *, layers: int, world: int, blocks: int, block_tokens: int, width: int = 1
    ) -> None:
        self.layers, self.world = layers, world
        self.blocks, self.block_tokens, self.width = blocks, block_tokens, width
        # [rank][layer][block][token][word]; garbage at the start, as in a real server.
        random = np.random.default_rng(0)
        shape = (world, layers, blocks, block_tokens, width)
        self.kv = random.integers(1, 2**63, size=shape, dtype=np.uint64)

    @property
    def page_bytes(self) -> int:
        return self.block_tokens * self.width * 8

    def forward(
        self,
        tokens: list[int],
        start: int,
        block_ids: list[int],
        wait_for_layer: Callable[[int, int], None],
    ) -> int:
        """Compute tokens[start:], whose predecessors are in the blocks; return the next token.

        Calls `wait_for_layer(rank, layer)` where vLLM does: after the new KV of the layer was
        written.
        """
        end = len(tokens)
        rows = np.array(block_ids)[np.arange(end) // self.block_tokens]
        columns = np.arange(end) % self.block_tokens
        hidden = mix(np.array(tokens[start:], dtype=np.uint64) + np.uint64(1))
        for layer in range(self.layers):
            parts = []
            for rank in range(self.world):
                word = np.arange(self.width, dtype=np.uint64)
                own = mix(hidden[:, None] ^ np.uint64(layer * 64 + rank)) + word
                self.kv[rank, layer, rows[start:], columns[start:]] = own
                wait_for_layer(rank, layer)
                read = self.kv[rank, layer, rows, columns]
                # The mean over the words, exactly: what a model of one word per token would read.
                values = mix(read - word)
                same = (values == values[:, :1]).all(axis=1)
                parts.append(np.cumsum(values[:, 0] * same, dtype=np.uint64)[start:])
            hidden = mix(hidden ^ np.bitwise_xor.reduce(parts))
        return int(hidden[-1] % np.uint64(VOCABULARY))


def expected_tokens(prompt: list[int], count: int, *, layers: int, world: int) -> list[int]:
    """Return what the model generates, computed in one piece for each token and without a cache."""
    tokens = list(prompt)
    for _ in range(count):
        size = len(tokens)
        model = PagedModel(layers=layers, world=world, blocks=1, block_tokens=size)
        tokens.append(model.forward(tokens, 0, [0], lambda rank, layer: None))
    return tokens[len(prompt) :]
