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
from clip_factory.evaluation.candidates import common_region
from clip_factory.evaluation.difference_intervals import Interval
from clip_factory.evaluation.joint_evaluation import JointEvaluation
from clip_factory.evaluation.measure import Evaluation, Figure, OperatingPoint
from clip_factory.report import formatting as words
from clip_factory.report import plots
from clip_factory.report.embedded_images import GRAY, SIDE, tile, uri
from clip_factory.report.plot_data import confident_mistakes
from clip_factory.report.report_page import environment
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region
from clip_factory.statistics import Confusion

MAX_PHOTOS = 60
"""Photos of one gallery that the page shows."""
MAX_UNREADABLE = 50


@dataclass(frozen=True)
class Photo:
    """One photo of a gallery."""

    uri: str
    """`data:` URI of a JPEG; a gray tile where the photo can no longer be read."""
    missing: bool
    path: str
    truth: bool
    """What is right."""
    answer: str
    """What was answered, in a few words."""


@dataclass(frozen=True)
class Gallery:
    """Photos of one kind, the most telling first."""

    title: str
    photos: list[Photo]
    total: int
    """How many there are, shown or not."""


def evaluation_page(evaluation: Evaluation) -> str:
    """The page of an evaluation: headline, figures, answers, thresholds, mistakes."""
    kept = ~evaluation.used
    p, truth = evaluation.probability[kept], evaluation.truth[kept]
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            version=__version__,
            evaluation=evaluation,
            model=evaluation.candidate.model,
            n=int(kept.sum()),
            rows=[figure_row(figure) for figure in evaluation.figures],
            operating_points=[threshold_row(point) for point in evaluation.operating_points],
            plots=[
                plots.precision_recall_plot(p, truth, evaluation.threshold),
                plots.reliability_plot(p, truth),
            ],
            galleries=_mistakes(evaluation),
            remarks=list(evaluation.remarks),
            unreadable=evaluation.unreadable[:MAX_UNREADABLE],
        )
    )


def comparison_page(joint: JointEvaluation) -> str:
    """The page of a comparison: the verdict, the figures side by side, and the photos that change side."""
    comparisons = joint.comparisons
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            version=__version__,
            joint=joint,
            title=" against ".join(one.name for one in joint.candidates),
            question=joint.candidates[0].model.question,
            verdicts=[(evaluation, joint.line(evaluation)) for evaluation in comparisons],
            rows=side_by_side(joint),
            pairs=[_pair(joint, i) for i in range(1, len(joint.candidates))],
            unreadable=joint.sample.unreadable[:MAX_UNREADABLE],
        )
    )


def side_by_side(joint: JointEvaluation) -> list[list[dict[str, str]]]:
    """A row for each candidate: cells with `head`, `figure` and `interval`."""
    return [
        _row(one.model.threshold, counts, ranking)
        for one, counts, ranking in zip(joint.candidates, joint.counts, joint.areas, strict=True)
    ]


def _row(threshold: float, counts: Confusion, ranking: tuple[float, Interval] | None) -> list[dict[str, str]]:
    figure, reach = ranking or (None, None)
    hits, alarms = f"{counts.hits:,} of {counts.yes:,}", f"{counts.false_alarms:,} among {counts.no:,}"
    rows = (
        ("threshold", f"{threshold:.3g}", ""),
        ("found", hits, words.interval(counts.recall.interval)),
        ("false alarms", alarms, words.interval(counts.false_alarm_rate.interval)),
        ("precision", words.share(counts.precision.figure), words.interval(counts.precision.interval)),
        ("balanced", words.share(counts.balanced_accuracy.figure), words.interval(counts.balanced_accuracy.interval)),
        ("AUC", words.decimal(figure), _range(reach)),
    )
    return [{"head": head, "figure": text, "interval": interval} for head, text, interval in rows]


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
    what, _, description = one.name.partition(": ")
    return {"name": what, "says": description, "figure": shown, "interval": reach, "n": one.n}


def _range(interval: Interval | None) -> str:
    return words.ABSENT if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def threshold_row(point: OperatingPoint) -> dict[str, Any]:
    """The answers at one threshold, as counts and texts."""
    counts = point.counts
    sides = (counts.recall, counts.precision, counts.false_alarm_rate)
    return {
        "threshold": f"{point.threshold:.3g}",
        "what": point.what,
        "counts": counts,
        "shares": [words.share(side.figure) for side in sides],
    }


def _mistakes(evaluation: Evaluation) -> list[Gallery]:
    kept = np.flatnonzero(~evaluation.used)
    p, truth = evaluation.probability[kept], evaluation.truth[kept]
    wrong = confident_mistakes(p, truth, evaluation.threshold, most=len(p))
    galleries = []
    for title, side in (("Missed: a yes answered no", True), ("False alarms: a no answered yes", False)):
        chosen = wrong[truth[wrong] == side]
        shown = [evaluation.folder.path[evaluation.index[kept[i]]] for i in chosen[:MAX_PHOTOS]]
        texts = [f"says {'no' if side else 'yes'}, {words.score(float(p[i]))}" for i in chosen[:MAX_PHOTOS]]
        files = [evaluation.folder.root / path for path in shown]
        photos = _photos(files, shown, [side] * len(shown), texts, evaluation.candidate.model.region)
        galleries.append(Gallery(title, photos, len(chosen)))
    return galleries


def _pair(joint: JointEvaluation, second: int) -> dict[str, Any]:
    """The photos on which the first and another candidate differ, both directions apart."""
    first, other = joint.candidates[0], joint.candidates[second]
    one, two, truth = joint.answers[0], joint.answers[second], joint.sample.truth
    better, worse = (two == truth) & (one != truth), (one == truth) & (two != truth)
    galleries = [
        _changed(joint, second, np.flatnonzero(side), f"{name} right, {loser} wrong")
        for side, name, loser in ((better, other.name, first.name), (worse, first.name, other.name))
    ]
    return {"names": (first.name, other.name), "galleries": galleries}


def _changed(joint: JointEvaluation, second: int, chosen: np.ndarray, title: str) -> Gallery:
    """Photos that change side, the yes photos first, then by how far the two probabilities lie apart."""
    sample = joint.sample
    distance = np.abs(sample.probability[0] - sample.probability[second])
    order = chosen[np.lexsort((-distance[chosen], ~sample.truth[chosen]))]
    shown = order[:MAX_PHOTOS].tolist()
    pairs = sample.probability[[0, second]][:, shown].T
    texts = [f"{words.score(float(one))}, then {words.score(float(two))}" for one, two in pairs]
    files, names = [sample.files[i] for i in shown], [sample.names[i] for i in shown]
    region = common_region([joint.candidates[0], joint.candidates[second]])
    return Gallery(title, _photos(files, names, sample.truth[shown].tolist(), texts, region), len(chosen))


def _photos(
    files: Sequence[Path], names: Sequence[str], truth: Sequence[bool], texts: Sequence[str], region: Region | None
) -> list[Photo]:
    with ThreadPoolExecutor(usable_cpus()) as pool:
        images = list(pool.map(lambda file: tile(file.parent, file.name, region=region), files))
    gray = Image.new("RGB", (SIDE, SIDE), GRAY)
    rows = zip(images, names, truth, texts, strict=True)
    return [Photo(uri(image or gray), image is None, name, right, what) for image, name, right, what in rows]
