# SPDX-License-Identifier: Apache-2.0
"""What the demo found, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from table import Row

COLOURS = ("#8a8f98", "#2a7de1", "#1aa179", "#d9822b", "#937860")


def draw(rows: list[Row], path: Path) -> None:
    """Write a bar chart of the times to first token, on a logarithmic scale, as a PNG."""
    figure, axes = plt.subplots(figsize=(9.6, 4.4), layout="constrained")
    questions = range(len(rows[0].ttft_s))
    width = 0.8 / len(rows)
    for place, (row, colour) in enumerate(zip(rows, COLOURS, strict=True)):
        left = [question + (place - (len(rows) - 1) / 2) * width for question in questions]
        bars = axes.bar(
            left, [s * 1000 for s in row.ttft_s], width * 0.94, color=colour, label=row.way
        )
        labels = [
            f"{seconds * 1000:.0f} ms" + (f"\n{factor:.0f} x" if place else "")
            for seconds, factor in zip(row.ttft_s, row.speed_up, strict=True)
        ]
        axes.bar_label(bars, labels, fontsize=8, padding=2)
    axes.set_yscale("log")
    axes.margins(y=0.25)
    axes.set_xticks(list(questions), [f"question {number + 1}" for number in questions])
    axes.set_ylabel("time to first token (ms, log scale)")
    axes.set_title("Three questions about one document: SmolLM2-135M on CPU, vLLM")
    axes.legend(frameon=False, ncols=len(rows), loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
