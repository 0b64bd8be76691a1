"""Pictures of zero-shot accuracy: the confusion matrix as a file, and the few-shot curve of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.errors import FactoryError
from clip_factory.report.formatting import share
from clip_factory.report.svg import NO, YES, Plot, svg
from clip_factory.runtime.atomic import atomic
from clip_factory.zeroshot.accuracy import Accuracy
from clip_factory.zeroshot.classification import UNSURE
from clip_factory.zeroshot.few_shot import FewShot

PICTURES = (".png", ".svg", ".pdf")
NUMBERED = 30
"""Classes up to which the cells of the matrix bear numbers."""


def few_shot_plot(shots: FewShot) -> Plot:
    """Accuracy by labels a class, with the spread over draws, beside zero-shot: after figure 6 of arXiv:2103.00020."""
    worth = f"about {shots.worth:.0f}" if shots.worth else f"more than {shots.shots[-1]}"
    says = (
        f"On {shots.photos:,} photos. Zero-shot is right on {share(shots.zero_shot)}: the words are worth {worth} "
        f"labeled photos of each class. The band is one standard deviation over {shots.accuracy.shape[1]} draws."
    )

    def draw(axes: Any) -> None:
        low, high = shots.mean - shots.spread, shots.mean + shots.spread
        axes.fill_between(shots.shots, low, high, color=YES, alpha=0.18, linewidth=0)
        axes.plot(shots.shots, shots.mean, "-o", color=YES, markersize=4, label="few-shot")
        axes.axhline(shots.zero_shot, color=NO, linestyle=(0, (4, 2)), label="zero-shot")
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots.shots, [str(k) for k in shots.shots])
        axes.set(xlabel="labeled photos of each class", ylabel="accuracy")
        axes.tick_params(which="minor", bottom=False)
        axes.legend(loc="lower right")

    key = (("yes", "few-shot: logistic regression on the vectors"), ("no", "zero-shot: words alone"))
    return Plot("What labels would add", says, svg("few-shot", says, draw), key)


def draw_confusion(accuracy: Accuracy, path: Path) -> Path:
    """Write the confusion matrix as a picture, shares of each row as shades.

    Raises:
        FactoryError: The file's kind is none of `PICTURES`.
    """
    if path.suffix.lower() not in PICTURES:
        raise FactoryError(
            f"{path}: no picture is written as {path.suffix or 'that'}", hint=f"use {', '.join(PICTURES)}"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = accuracy.confusion
    rows, columns = counts.shape
    names = [*accuracy.names, UNSURE][:columns]
    figure = Figure(figsize=(2 + 0.42 * columns, 1.6 + 0.42 * rows), layout="constrained", dpi=144)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if columns <= NUMBERED:
        for row, column in np.argwhere(counts):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8, color="w" if dark else "k"
            )
    axes.set_xticks(range(columns), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(rows), accuracy.names[:rows], fontsize=9)
    axes.set(xlabel="answer", ylabel="folder", title=f"right {100 * accuracy.top1.figure:.1f} % of {accuracy.top1.n:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:], metadata={} if path.suffix == ".png" else None)
    return path
