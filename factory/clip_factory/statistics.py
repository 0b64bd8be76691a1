"""Shares with honest intervals, and the other statistics that the gate reports."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % Wilson interval."""

    figure: float
    n: int
    interval: tuple[float, float]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % score interval of a binomial share (Wilson 1927); (0, 1) for an empty sample."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share(hits: np.ndarray) -> Share:
    """The share of true entries of a boolean `(N,)`."""
    return proportion(int(hits.sum()), len(hits))


def proportion(hits: int, n: int) -> Share:
    """`hits` of `n`; NaN with the interval (0, 1) where `n` is 0."""
    return Share(hits / n if n else math.nan, n, wilson(hits, n))


@dataclass(frozen=True)
class Confusion:
    """Answers against the truth, in counts, by the names of signal detection (Green and Swets 1966)."""

    hits: int
    """Yes photos answered yes."""
    misses: int
    """Yes photos answered no."""
    false_alarms: int
    """No photos answered yes."""
    correct_rejections: int
    """No photos answered no."""

    @classmethod
    def of(cls, truth: np.ndarray, answers: np.ndarray) -> Confusion:
        """Count; both arrays are bool `(N,)`, true for yes."""
        return cls(
            int((truth & answers).sum()),
            int((truth & ~answers).sum()),
            int((~truth & answers).sum()),
            int((~truth & ~answers).sum()),
        )

    @property
    def yes(self) -> int:
        """Photos whose right answer is yes."""
        return self.hits + self.misses

    @property
    def no(self) -> int:
        """Photos whose right answer is no."""
        return self.false_alarms + self.correct_rejections

    @property
    def recall(self) -> Share:
        """Of the yes photos, the share answered yes."""
        return proportion(self.hits, self.yes)

    @property
    def precision(self) -> Share:
        """Of the answers yes, the share that is right."""
        return proportion(self.hits, self.hits + self.false_alarms)

    @property
    def false_alarm_rate(self) -> Share:
        """Of the no photos, the share answered yes."""
        return proportion(self.false_alarms, self.no)

    @property
    def balanced_accuracy(self) -> Share:
        """Mean of recall and of the share of no photos answered no; MOVER interval (Zou and Donner 2008)."""
        return _mean_of(self.recall, proportion(self.correct_rejections, self.no))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; NaN without a yes on either side."""
        total = 2 * self.hits + self.misses + self.false_alarms
        return 2 * self.hits / total if total else math.nan

    @property
    def sentence(self) -> str:
        """What a user gains and loses, with 95 % intervals: the words of every headline."""
        alarms = f"{self.false_alarms:,} false alarm{'' if self.false_alarms == 1 else 's'}"
        return (
            f"finds {self.hits:,} of {self.yes:,}{_range(self.recall)}, misses {self.misses:,}; "
            f"{alarms} among {self.no:,}{_range(self.false_alarm_rate)}"
        )


def min_sample_size(bar: float) -> int:
    """The smallest sample of which even a perfect score shows, at 95 %, a share of at least `bar`."""
    n = 1
    while bar < 1 and wilson(n, n)[0] < bar:
        n += 1
    return n


def balanced_accuracy(truth: np.ndarray, answers: np.ndarray) -> Share:
    """Mean of the two recalls, with its 95 % interval; bool `(N,)` each."""
    return Confusion.of(truth, answers).balanced_accuracy


def _mean_of(one: Share, other: Share) -> Share:
    sides = (one, other)
    figure = sum(side.figure for side in sides) / 2
    below, above = (math.hypot(*[s.figure - s.interval[end] for s in sides]) / 2 for end in (0, 1))
    return Share(figure, one.n + other.n, (max(0.0, figure - below), min(1.0, figure + above)))


def _range(rate: Share) -> str:
    low, high = rate.interval
    return f" ({100 * low:.0f} to {100 * high:.0f} %)" if rate.n else ""


def break_even(probability: np.ndarray) -> float:
    """The threshold from which as many images are called yes as the probabilities `(N,)` expect, at least one.

    Errors on either side are then expected to be equally many, where the probabilities are calibrated. Equal
    probabilities lie on one side, so that the number may be missed; the nearest that can be had is taken.
    """
    if not len(probability):
        return 0.5
    values, counts = np.unique(probability, return_counts=True)
    called = counts[::-1].cumsum()[::-1]
    return float(values[np.abs(called - probability.sum(dtype=np.float64)).argmin()])


def calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float | None:
    """Expected calibration error over equal bins of the probability of yes (Naeini et al. 2015), in [0, 1]."""
    if not len(truth):
        return None
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(float(truth[index == b].mean() - probability[index == b].mean())) * (index == b).mean() for b in set(index)
    ]
    return float(sum(gaps))
