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
    n = len(hits)
    return Share(float(hits.mean()) if n else float("nan"), n, wilson(int(hits.sum()), n))


def least_sample(bar: float) -> int:
    """The smallest sample of which even a perfect score shows, at 95 %, a share of at least `bar`."""
    n = 1
    while bar < 1 and wilson(n, n)[0] < bar:
        n += 1
    return n


def balanced_accuracy(truth: np.ndarray, answers: np.ndarray) -> Share:
    """Mean of the two recalls, with a 95 % interval from their Wilson intervals (MOVER; Zou and Donner 2008)."""
    sides = [share(answers[truth == side] == side) for side in (True, False)]
    figure = sum(side.figure for side in sides) / 2
    below, above = (math.hypot(*[s.figure - s.interval[end] for s in sides]) / 2 for end in (0, 1))
    return Share(figure, len(truth), (max(0.0, figure - below), min(1.0, figure + above)))


def calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float | None:
    """Expected calibration error over equal bins of the probability of yes (Naeini et al. 2015), in [0, 1]."""
    if not len(truth):
        return None
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(float(truth[index == b].mean() - probability[index == b].mean())) * (index == b).mean() for b in set(index)
    ]
    return float(sum(gaps))
