"""The pages of an evaluation and of a comparison: each one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader
from PIL import Image

from clip_factory import __version__
from clip_factory.evaluation.difference_intervals import Interval
from clip_factory.evaluation.measure import Cut, Evaluation, Figure
from clip_factory.evaluation.paired import Bout
from clip_factory.report import formatting as words
from clip_factory.report import plots
from clip_factory.report.embedded_images import GRAY, SIDE, tile, uri
from clip_factory.report.plot_data import confident_mistakes
from clip_factory.report.report_page import environment
from clip_factory.statistics import Confusion

MOST = 60
"""Photos of one gallery that the page shows."""
UNREADABLE_SHOWN = 50


@dataclass(frozen=True)
class Shot:
    """One photo of a gallery."""

    uri: str
    """`data:` URI of a JPEG; a gray tile where the photo can no longer be read."""
    missing: bool
    path: str
    truth: bool
    """What is right."""
    says: str
    """What was answered, in a few words."""


@dataclass(frozen=True)
class Gallery:
    """Photos of one kind, the most telling first."""

    title: str
    shots: list[Shot]
    total: int
    """How many there are, shown or not."""


def evaluation_page(found: Evaluation) -> str:
    """The page of an evaluation: headline, figures, answers, thresholds, mistakes."""
    kept = ~found.seen
    p, truth = found.probability[kept], found.truth[kept]
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            version=__version__,
            found=found,
            model=found.contender.model,
            n=int(kept.sum()),
            rows=[figure_row(figure) for figure in found.figures],
            cuts=[cut_row(cut) for cut in found.cuts],
            plots=[
                plots.precision_recall_plot(p, truth, found.threshold),
                plots.reliability_plot(p, truth),
            ],
            galleries=_mistakes(found),
            remarks=list(found.remarks),
            unreadable=found.unreadable[:UNREADABLE_SHOWN],
        )
    )


def comparison_page(bout: Bout) -> str:
    """The page of a comparison: the verdict, the figures side by side, and the photos that change side."""
    comparisons = bout.comparisons
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            version=__version__,
            bout=bout,
            title=" against ".join(one.name for one in bout.contenders),
            question=bout.contenders[0].model.question,
            verdicts=[(found, bout.line(found)) for found in comparisons],
            rows=side_by_side(bout),
            pairs=[_pair(bout, i) for i in range(1, len(bout.contenders))],
            unreadable=bout.sample.unreadable[:UNREADABLE_SHOWN],
        )
    )


def side_by_side(bout: Bout) -> list[list[dict[str, str]]]:
    """A row for each contender: cells with `head`, `figure` and `interval`."""
    return [
        _row(one.model.threshold, counts, ranking)
        for one, counts, ranking in zip(bout.contenders, bout.counts, bout.areas, strict=True)
    ]


def _row(threshold: float, counts: Confusion, ranking: tuple[float, Interval] | None) -> list[dict[str, str]]:
    figure, reach = ranking or (None, None)
    found, raised = f"{counts.hits:,} of {counts.yes:,}", f"{counts.false_alarms:,} among {counts.no:,}"
    told = (
        ("threshold", f"{threshold:.3g}", ""),
        ("found", found, words.interval(counts.recall.interval)),
        ("false alarms", raised, words.interval(counts.false_alarm_rate.interval)),
        ("precision", words.share(counts.precision.figure), words.interval(counts.precision.interval)),
        ("balanced", words.share(counts.balanced_accuracy.figure), words.interval(counts.balanced_accuracy.interval)),
        ("AUC", words.decimal(figure), _range(reach)),
    )
    return [{"head": head, "figure": text, "interval": interval} for head, text, interval in told]


def _environment() -> Environment:
    made = environment(html=True)
    shared = [made.loader] if made.loader else []
    made.loader = ChoiceLoader([PackageLoader("clip_factory.evaluation"), *shared])
    return made


def figure_row(one: Figure) -> dict[str, Any]:
    """A measure as texts."""
    if one.is_share:
        shown, reach = words.share(one.value), words.interval(one.interval)
    else:
        shown, reach = words.decimal(one.value), _range(one.interval)
    what, _, says = one.name.partition(": ")
    return {"name": what, "says": says, "figure": shown, "interval": reach, "n": one.n}


def _range(interval: Interval | None) -> str:
    return words.ABSENT if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def cut_row(cut: Cut) -> dict[str, Any]:
    """The answers at one threshold, as counts and texts."""
    counts = cut.counts
    sides = (counts.recall, counts.precision, counts.false_alarm_rate)
    return {
        "threshold": f"{cut.threshold:.3g}",
        "what": cut.what,
        "counts": counts,
        "shares": [words.share(side.figure) for side in sides],
    }


def _mistakes(found: Evaluation) -> list[Gallery]:
    kept = np.flatnonzero(~found.seen)
    p, truth = found.probability[kept], found.truth[kept]
    wrong = confident_mistakes(p, truth, found.threshold, most=len(p))
    galleries = []
    for title, side in (("Missed: a yes answered no", True), ("False alarms: a no answered yes", False)):
        chosen = wrong[truth[wrong] == side]
        shown = [found.folder.path[found.index[kept[i]]] for i in chosen[:MOST]]
        says = [f"says {'no' if side else 'yes'}, {words.score(float(p[i]))}" for i in chosen[:MOST]]
        files = [found.folder.root / path for path in shown]
        galleries.append(Gallery(title, _shots(files, shown, [side] * len(shown), says), len(chosen)))
    return galleries


def _pair(bout: Bout, second: int) -> dict[str, Any]:
    """The photos on which the first and another contender differ, both directions apart."""
    first, other = bout.contenders[0], bout.contenders[second]
    one, two, truth = bout.answers[0], bout.answers[second], bout.sample.truth
    better, worse = (two == truth) & (one != truth), (one == truth) & (two != truth)
    galleries = [
        _changed(bout, second, np.flatnonzero(side), f"{name} right, {loser} wrong")
        for side, name, loser in ((better, other.name, first.name), (worse, first.name, other.name))
    ]
    return {"names": (first.name, other.name), "galleries": galleries}


def _changed(bout: Bout, second: int, chosen: np.ndarray, title: str) -> Gallery:
    """Photos that change side, the yes photos first, then by how far the two probabilities lie apart."""
    sample = bout.sample
    apart = np.abs(sample.probability[0] - sample.probability[second])
    order = chosen[np.lexsort((-apart[chosen], ~sample.truth[chosen]))]
    shown = order[:MOST].tolist()
    pairs = sample.probability[[0, second]][:, shown].T
    says = [f"{words.score(float(one))}, then {words.score(float(two))}" for one, two in pairs]
    files, names = [sample.files[i] for i in shown], [sample.names[i] for i in shown]
    return Gallery(title, _shots(files, names, sample.truth[shown].tolist(), says), len(chosen))


def _shots(files: Sequence[Path], names: Sequence[str], truth: Sequence[bool], says: Sequence[str]) -> list[Shot]:
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda file: tile(file.parent, file.name), files))
    gray = Image.new("RGB", (SIDE, SIDE), GRAY)
    told = zip(images, names, truth, says, strict=True)
    return [Shot(uri(image or gray), image is None, name, right, what) for image, name, right, what in told]
