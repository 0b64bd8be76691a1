"""The threshold: from which probability on the answer is yes, for the need that the scenario states.

All needs are read off the same held-out photos, each of which counts as yes by the probability that it is one: a
person's label counts whole, a teacher's .55 is a little more than half a yes and not a no. Counts of few photos are
ragged functions of the threshold, so each score is blurred a little first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit, logit

from clip_factory.exporters.calibration import SoftTruth
from clip_factory.scenario import Costs, Need, Target

MIN_THRESHOLD, MAX_THRESHOLD = 0.001, 0.999
"""Thresholds lie between these."""
STEPS = 600
BLUR = 0.3
"""Share of Silverman's width (1986) in log-odds; the whole of it moves the threshold of a rare answer into its tail."""
RESAMPLES = 200
"""Bootstrap samples behind an interval."""


@dataclass(frozen=True)
class Threshold:
    """A threshold, how sure its place is, and what is expected there on photos like the held-out ones."""

    threshold: float
    """In [MIN_THRESHOLD, MAX_THRESHOLD]."""
    interval: tuple[float, float]
    """95 % bootstrap interval over photos: where other photos of the same kind would have put it."""
    target: str
    """The need, in a few words."""
    recall: float
    """Expected share of the yes photos that is answered yes."""
    precision: float
    """Expected share of the answers yes that is right."""
    false_alarms: float
    """Expected share of the no photos that is answered yes."""
    base_rate: float
    """The share of yes among the photos, as labels of people and of the teacher give it."""
    against: str
    """Whose labels these are: `gold`, `gold and teacher`, or `teacher`."""
    images: int
    """Held-out photos behind it."""
    reached: bool = True
    """Whether any threshold meets the need; where none does, this is the nearest."""

    def to_dict(self) -> dict[str, Any]:
        """For the model's metadata."""
        return asdict(self)


@dataclass(frozen=True)
class Curves:
    """Expected counts at each threshold of a rising grid; float64 `(STEPS,)` each."""

    grid: np.ndarray
    """Log-odds, from which on the answer is yes."""
    hits: np.ndarray
    alarms: np.ndarray
    yes: float
    """Expected number of yes photos in all."""
    no: float

    @classmethod
    def of(cls, probability: np.ndarray, truth: SoftTruth, weight: np.ndarray | None = None) -> Curves:
        """Count on held-out photos.

        Args:
            probability: `(N,)` in [0, 1], the student's.
            truth: The right answers; N rows.
            weight: `(N,)`, how often each photo counts; None: once.
        """
        scores = logit(np.clip(probability.astype(np.float64), MIN_THRESHOLD, MAX_THRESHOLD))
        edges, step = np.linspace(logit(MIN_THRESHOLD), logit(MAX_THRESHOLD), STEPS, retstep=True)
        bins = np.round((scores - edges[0]) / step).astype(int)
        width = BLUR * 0.9 * float(scores.std()) * max(len(scores), 1) ** -0.2 if len(scores) else 0.0
        count = np.ones(len(scores)) if weight is None else weight
        yes, no = count * truth.probability, count * (1 - truth.probability)
        hits, alarms = (_above(bins, side, width / step) for side in (yes, no))
        return cls(edges - step / 2, hits, alarms, float(yes.sum()), float(no.sum()))

    def best(self, need: Need, base_rate: float) -> int:
        """Index of the grid's best threshold."""
        if isinstance(need, Target) and need.threshold is not None:
            return int(np.abs(self.grid - logit(need.threshold)).argmin())
        if need == "break-even":
            expected = base_rate * (self.yes + self.no)
            return int(np.abs(self.hits + self.alarms - expected).argmin())
        if need == "balanced":
            return int((self.hits / max(self.yes, 1e-9) - self.alarms / max(self.no, 1e-9)).argmax())
        return self._stated(need)

    def _stated(self, need: Target) -> int:
        if need.recall is not None:
            return _last(self.hits >= need.recall * self.yes)
        if need.false_alarms is not None:
            return _first(self.alarms <= need.false_alarms * self.no)
        if need.precision is not None:
            precise = self.hits / np.maximum(self.hits + self.alarms, 1e-9)
            return _first(precise >= need.precision) if (precise >= need.precision).any() else int(precise.argmax())
        costs = need.costs or Costs()
        return int((costs.false_yes * self.alarms + costs.false_no * (self.yes - self.hits)).argmin())


def choose_threshold(
    probability: np.ndarray, truth: SoftTruth, need: Need, groups: np.ndarray | None = None, resamples: int = RESAMPLES
) -> Threshold:
    """Where the need puts the threshold.

    Args:
        probability: `(N,)` in [0, 1], calibrated, of held-out photos.
        truth: The right answers; N rows.
        need: The scenario's.
        groups: `(N,)` near-duplicate groups, which the bootstrap draws whole; None: every photo is one.
        resamples: Bootstrap samples behind the interval.
    """
    curves = Curves.of(probability, truth)
    index = curves.best(need, truth.base_rate)
    names = np.arange(len(probability)) if groups is None else groups
    thresholds = _resampled(probability, truth, need, names, resamples)
    thresholds = thresholds if len(thresholds) else curves.grid[[index]]
    hits, alarms = float(curves.hits[index]), float(curves.alarms[index])
    fixed = need.threshold if isinstance(need, Target) else None
    spread = (fixed, fixed) if fixed else tuple(_probability(np.quantile(thresholds, q)) for q in (0.025, 0.975))
    precise = need.precision if isinstance(need, Target) else None
    return Threshold(
        threshold=fixed or _probability(curves.grid[index]),
        interval=(spread[0], spread[1]),
        target=describe_need(need),
        recall=round(hits / max(curves.yes, 1e-9), 4),
        precision=round(hits / max(hits + alarms, 1e-9), 4),
        false_alarms=round(alarms / max(curves.no, 1e-9), 4),
        base_rate=round(truth.base_rate, 4),
        against=truth.against,
        images=len(probability),
        reached=precise is None or hits >= precise * (hits + alarms) > 0,
    )


def describe_need(need: Need) -> str:
    """The need in a few words."""
    if not isinstance(need, Target):
        return need
    words: dict[str, Callable[[float], str]] = {
        "recall": lambda share: f"finds {100 * share:g} % of the yes photos",
        "precision": lambda share: f"{100 * share:g} % of its yeses right",
        "false_alarms": lambda share: f"false alarms on {100 * share:g} % of the no photos",
        "threshold": lambda p: f"yes from {p:g} on",
    }
    for key, word in words.items():
        if (share := getattr(need, key)) is not None:
            return word(share)
    costs = need.costs or Costs()
    return f"a wrong yes costs {costs.false_yes:g}, a wrong no {costs.false_no:g}"


def _above(bins: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
    """The blurred weight at or above each of the grid's bins."""
    counts = gaussian_filter1d(np.bincount(bins, weight, STEPS), max(width, 1e-3), mode="reflect")
    return np.asarray(counts[::-1].cumsum()[::-1])


def _resampled(probability: np.ndarray, truth: SoftTruth, need: Need, groups: np.ndarray, times: int) -> np.ndarray:
    """Thresholds in log-odds, on bootstrap samples of the groups."""
    random = np.random.default_rng(0)
    names, where = np.unique(groups, return_inverse=True)
    thresholds = []
    for _ in range(times if len(probability) else 0):
        weight = random.multinomial(len(names), np.full(len(names), 1 / len(names)))[where].astype(np.float64)
        curves = Curves.of(probability, truth, weight)
        share = float(np.average(truth.probability, weights=weight)) - float(truth.probability.mean())
        thresholds.append(curves.grid[curves.best(need, truth.base_rate + share)])
    return np.array(thresholds)


def _probability(log_odds: float) -> float:
    return round(float(expit(log_odds)), 4)


def _first(reached: np.ndarray) -> int:
    return int(reached.argmax()) if reached.any() else len(reached) - 1


def _last(reached: np.ndarray) -> int:
    return int(np.flatnonzero(reached)[-1]) if reached.any() else 0
