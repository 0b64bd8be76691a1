"""One model on a labeled folder: what a user gains and loses, at its own threshold and at others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.errors import GoldError
from clip_factory.evaluation.candidates import Candidate
from clip_factory.evaluation.comparison_text import BY_PEOPLE
from clip_factory.evaluation.difference_intervals import Interval, area
from clip_factory.evaluation.labeled_folder import LabeledFolder, read_folder
from clip_factory.statistics import Confusion, Share, calibration_error

RESAMPLES = 1000
GRID = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
YES_NO = {True: "yes", False: "no"}
OUTCOMES = {
    (True, True): "found",
    (True, False): "missed",
    (False, True): "false alarm",
    (False, False): "correct rejection",
}
"""By what is right, and what was answered."""
OWN, BREAK_EVEN, FEW_ALARMS, HIGH_RECALL = "as shipped", "break-even", "1 % false alarms", "90 % recall"


@dataclass(frozen=True)
class OperatingPoint:
    """The answers at one threshold."""

    threshold: float
    what: str
    """Why this one; empty for one of a grid."""
    counts: Confusion


@dataclass(frozen=True)
class Figure:
    """One measure, with its 95 % interval."""

    name: str
    value: float | None
    interval: Interval | None
    n: int
    """Photos that it rests on."""
    is_share: bool = True
    """Whether people read it in per cent."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's answers on a labeled folder; arrays have length N, the photos that have a label and can be read."""

    candidate: Candidate
    folder: LabeledFolder
    index: np.ndarray
    """Where each photo stands in `folder`."""
    probability: np.ndarray
    """Of yes, in [0, 1]."""
    used: np.ndarray
    """Whether the photo has shaped the model: it counts in no figure."""
    unreadable: list[tuple[str, str]]
    """Path and reason of labeled photos that cannot be read."""

    @property
    def threshold(self) -> float:
        """The model's own: the probability from which it answers yes."""
        return self.candidate.model.threshold

    @property
    def truth(self) -> np.ndarray:
        """Whether people say yes, bool `(N,)`."""
        return np.asarray(self.folder.truth[self.index])

    @property
    def answers(self) -> np.ndarray:
        """The model's answers, bool `(N,)`."""
        return np.asarray(self.probability >= self.threshold)

    @cached_property
    def counts(self) -> Confusion:
        """The model's answers on the photos that measure it."""
        return self._at(self.threshold)

    @property
    def headline(self) -> str:
        """What a user gains and loses, in a sentence without a full stop."""
        return f"{self.candidate.model.name}: {self.counts.sentence}, {BY_PEOPLE}"

    @cached_property
    def figures(self) -> list[Figure]:
        """All measures, on the photos that the model never saw."""
        counts, kept = self.counts, ~self.used
        truth, p, groups = self.truth[kept], self.probability[kept], self.folder.group[self.index][kept]
        (ranking, reach), gap = area(truth, p, groups) or (None, None), calibration_error(truth, p)
        return [
            _share("recall: of the yes photos, found", counts.recall),
            _share("precision: of its yeses, right", counts.precision),
            _share("false alarms: of the no photos, answered yes", counts.false_alarm_rate),
            _share("balanced accuracy", counts.balanced_accuracy),
            Figure("area under the ROC curve", ranking, reach, len(truth), is_share=False),
            Figure("calibration error", gap, calibration_interval(truth, p, groups), len(truth), is_share=False),
        ]

    @cached_property
    def operating_points(self) -> list[OperatingPoint]:
        """About a dozen thresholds by rising value: the shipped one, those that serve a need, and a grid."""
        kept = ~self.used
        named = named_thresholds(self.truth[kept], self.probability[kept])
        needs = {self.threshold: OWN}
        for what, threshold in named.items():
            needs[threshold] = f"{needs[threshold]}, {what}" if threshold in needs else what
        chosen = needs | {threshold: "" for threshold in GRID if threshold not in needs}
        return [OperatingPoint(threshold, what, self._at(threshold)) for threshold, what in sorted(chosen.items())]

    @property
    def remarks(self) -> Iterator[str]:
        """What was left out and what is not known, a sentence each."""
        yield from left_out(self.folder, int(self.used.sum()), self.candidate.name)
        if self.candidate.run is None:
            yield "What it was trained on is not known: photos of it among these would flatter it."
        alike = len(self.index) - len(set(self.folder.group[self.index].tolist()))
        if alike:
            yield (
                f"{alike:,} of these photos look like another one; the intervals of shares count each by itself, "
                "and are a little too narrow."
            )

    def _at(self, threshold: float) -> Confusion:
        return Confusion.of(self.truth[~self.used], self.probability[~self.used] >= threshold)


def evaluate(candidate: Candidate, gold: Path, root: Path) -> Evaluation:
    """Ask a model about all labeled photos below `root`.

    Args:
        candidate: The model.
        gold: As `clip_factory.gold.gold_csv.read_gold` takes it.
        root: Folder of photos.

    Raises:
        GoldError: The labels cannot be used, or every labeled photo has shaped the model.
        ImagesError: There are no photos.
    """
    folder = read_folder(gold, root, candidate.model.region)
    p, reasons = candidate.predict(root / path for path in folder.path)
    index = np.flatnonzero(~np.isnan(p))
    used = candidate.was_used(folder.sha256[i] for i in index)
    if len(index) and used.all():
        raise GoldError(
            f"{gold}: {candidate.name} was trained on all {len(index)} labeled photos: they measure nothing",
            hint="label photos of its test split: factory review --prove, or others: --images DIR",
        )
    if not len(index):
        raise GoldError(f"{root}: none of the {len(p)} labeled photos can be read", hint=f"the first: {reasons[0]}")
    return Evaluation(candidate, folder, index, p[index], used, [(folder.path[i], why) for i, why in reasons.items()])


def left_out(folder: LabeledFolder, used: int, name: str) -> Iterator[str]:
    """What of a folder does not measure, a sentence each."""
    if used:
        yield f"{_photos(used)} that {name} was trained or tuned on left out: the figures are for photos it never saw."
    if folder.picked:
        yield f"{folder.picked:,} labels asked for because the photo looked doubtful left out: such photos are harder."
    if folder.copies:
        yield f"{folder.copies:,} exact {'copy' if folder.copies == 1 else 'copies'} set aside."
    if folder.unlabeled:
        yield f"{_photos(folder.unlabeled)} without a label."


def named_thresholds(truth: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Thresholds that serve a need on these very photos, by what they serve; those that cannot be had are not there.

    Break-even has about as many false alarms as misses; the one for false alarms raises them on at most 1 % of the no
    photos and finds what that allows; the one for recall finds at least 90 % at the fewest false alarms.

    Args:
        truth: bool `(N,)`.
        p: `(N,)` probability of yes, in [0, 1].
    """
    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        return {}
    values = np.unique(p)[::-1]
    hits, alarms = (len(side) - np.searchsorted(np.sort(side), values) for side in (p[truth], p[~truth]))
    chosen = {BREAK_EVEN: int(np.argmin(np.abs(hits + alarms - yes)))}
    few = np.flatnonzero(100 * alarms <= no)
    if len(few) and hits[few[-1]]:
        chosen[FEW_ALARMS] = int(few[-1])
    chosen[HIGH_RECALL] = int(np.flatnonzero(hits >= 0.9 * yes)[0])
    return {what: _between(values, at) for what, at in chosen.items()}


def _between(values: np.ndarray, at: int) -> float:
    """Half-way from the last value that is in to the first that is out, to four digits where those tell them apart."""
    below = float(values[at + 1]) if at + 1 < len(values) else 0.0
    middle = (float(values[at]) + below) / 2
    short = round(middle, 4)
    return short if below < short <= values[at] else middle


def calibration_interval(truth: np.ndarray, p: np.ndarray, groups: np.ndarray) -> Interval | None:
    """95 % interval of the calibration error: percentiles of a bootstrap of groups, always the same one."""
    if not len(truth):
        return None
    members = np.unique(groups, return_inverse=True)[1]
    parts = np.split(np.argsort(members, kind="stable"), np.cumsum(np.bincount(members))[:-1])
    random = np.random.default_rng(0)
    resampled = []
    for _ in range(RESAMPLES):
        sample = np.concatenate([parts[i] for i in random.integers(len(parts), size=len(parts))])
        resampled.append(calibration_error(truth[sample], p[sample]) or 0.0)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """All figures as a tree that JSON can hold."""
    model = evaluation.candidate.model
    return {
        "model": {
            "name": model.name,
            "question": model.question,
            "sha256": model.sha256,
            "threshold": model.threshold,
            "given_as": evaluation.candidate.name,
        },
        "headline": evaluation.headline,
        "reference": "people",
        "remarks": list(evaluation.remarks),
        "photos": {
            "measured": int((~evaluation.used).sum()),
            "trained_on": int(evaluation.used.sum()),
            "unlabeled": evaluation.folder.unlabeled,
            "unreadable": [{"path": path, "reason": reason} for path, reason in evaluation.unreadable],
        },
        "confusion": asdict(evaluation.counts),
        "figures": [
            {"name": one.name, "figure": _finite(one.value), "interval": one.interval, "n": one.n}
            for one in evaluation.figures
        ],
        "thresholds": [
            {"threshold": point.threshold, "what": point.what, **asdict(point.counts)}
            for point in evaluation.operating_points
        ],
    }


def rows(evaluation: Evaluation) -> Iterator[tuple[str, float, str, str, str, str]]:
    """One for each photo: path, probability, answer, label, outcome, and its split in the run; empty outside of it."""
    columns = zip(evaluation.index.tolist(), evaluation.probability, evaluation.answers, evaluation.truth, strict=True)
    for i, p, answer, label in columns:
        split = evaluation.candidate.splits.get(evaluation.folder.sha256[i], "")
        yield (
            evaluation.folder.path[i],
            round(float(p), 6),
            YES_NO[answer],
            YES_NO[label],
            OUTCOMES[label, answer],
            split,
        )


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def _share(name: str, measured: Share) -> Figure:
    return Figure(name, measured.figure, measured.interval, measured.n)


def _photos(count: int) -> str:
    return f"{count:,} {'photo' if count == 1 else 'photos'}"
