"""Differences between two classifiers, with 95 % intervals, on the same photos or on others; numpy alone.

Near-duplicates are not independent: where `groups` are given, variances are summed by group (Obuchowski 1997), and
counts are shrunk by the design effect (Rao and Scott 1992) before an interval is made of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from clip_factory.statistics import Z95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A figure of two classifiers, the second against the first."""

    first: float
    second: float
    figure: float
    """`second` - `first`."""
    interval: Interval
    """95 %, of `figure`."""
    n: int
    """Photos that it rests on; of two samples, the second's."""
    only_first: int = 0
    """Photos on which the first alone says yes."""
    only_second: int = 0
    """Photos on which the second alone says yes."""
    p_value: float | None = None
    """Exact McNemar, two-sided; None where the photos are not the same, and for an area under the ROC curve."""

    @property
    def sign(self) -> int:
        """1 or -1 where chance alone would not give this difference, 0 where it might."""
        return int(self.interval[0] > 0) - int(self.interval[1] < 0)

    def reversed(self) -> Difference:
        """The same, the first against the second."""
        low, high = self.interval
        return Difference(
            self.second,
            self.first,
            -self.figure,
            (-high, -low),
            self.n,
            self.only_second,
            self.only_first,
            self.p_value,
        )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that the pairs in which two classifiers differ fall evenly (McNemar 1947)."""
    n, least = only_first + only_second, min(only_first, only_second)
    ways = sum(math.comb(n, k) for k in range(least + 1))
    return min(1.0, float(Fraction(2 * ways, 1 << n)))  # whole numbers: 2**n overflows a float from n = 1024 on


def paired(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> Difference | None:
    """The difference of two shares of the same photos: Newcombe's hybrid score interval (1998, method 10).

    Args:
        first: bool `(N,)`, the answers of the first.
        second: bool `(N,)`, those of the second.
        groups: int `(N,)`, equal for near-duplicates; None: no photo looks like another.

    Returns:
        None where N is 0.
    """
    if not len(first):
        return None
    shrink = 1 / design_effect(second.astype(float) - first, groups)
    cells = [int((x & y).sum()) for x in (first, ~first) for y in (second, ~second)]  # both, first, second, neither
    low, high = newcombe_paired(*(shrink * cell for cell in cells))
    one, two = float(first.mean()), float(second.mean())
    return Difference(one, two, two - one, (low, high), len(first), cells[1], cells[2], mcnemar(cells[1], cells[2]))


def newcombe_paired(both: float, first: float, second: float, neither: float) -> Interval:
    """Interval of the second's share minus the first's, from the counts of answers yes by both, one, or neither."""
    n = both + first + second + neither
    ends = _wilson_distances(both + second, n), _wilson_distances(both + first, n)
    edges = (both + second) * (first + neither) * (both + first) * (second + neither)
    cross = both * neither - first * second
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross  # his continuity correction
    phi = cross / math.sqrt(edges) if edges > 0 else 0.0
    return _combined_interval((second - first) / n, *ends, phi)


def newcombe_independent(hits: tuple[int, int], sizes: tuple[int, int]) -> Interval:
    """Interval of the second share minus the first, of two samples without a photo in common (1998, method 10)."""
    figure = hits[1] / sizes[1] - hits[0] / sizes[0]
    return _combined_interval(figure, _wilson_distances(hits[1], sizes[1]), _wilson_distances(hits[0], sizes[0]), 0.0)


def balanced_accuracy_interval(recall: Difference, alarms: Difference) -> Interval:
    """Interval of the difference of balanced accuracy, of its two sides' intervals (MOVER, Zou and Donner 2008)."""
    figure = (recall.figure - alarms.figure) / 2
    low = math.hypot(recall.figure - recall.interval[0], alarms.interval[1] - alarms.figure) / 2
    high = math.hypot(recall.interval[1] - recall.figure, alarms.figure - alarms.interval[0]) / 2
    return figure - low, figure + high


def design_effect(values: np.ndarray, groups: np.ndarray | None) -> float:
    """How many times larger the variance of the mean of `values` `(N,)` is for their groups; at least 1."""
    if groups is None or not len(values):
        return 1.0
    inverse = np.unique(groups, return_inverse=True)[1]
    off = values - values.mean()
    alone = float((off**2).sum())
    if alone == 0:  # nothing differs: a group tells no more than one photo
        return len(values) / (int(inverse.max()) + 1)
    return max(1.0, float((np.bincount(inverse, off) ** 2).sum()) / alone)


def area(truth: np.ndarray, p: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, Interval] | None:
    """Area under the ROC curve and its interval, by DeLong's variance (1988) on the logit scale.

    Where the two answers are wholly apart the variance is 0 and says nothing: the interval is then that of a share
    of 1 in as many photos as the rarer answer has.

    Args:
        truth: bool `(N,)`.
        p: `(N,)` probability of yes.
        groups: As `paired` takes them.

    Returns:
        None where all photos are yes, or all are no.
    """
    if truth.all() or not truth.any():
        return None
    figure, pull = _influence(truth, p)
    rarer = min(int(truth.sum()), int((~truth).sum()))
    error = math.sqrt(_group_variance(pull, groups))
    if error < 1e-12 or rarer < 2:
        down, up = _wilson_distances(figure * rarer, rarer)
        return figure, (figure - down, figure + up)
    odds, reach = math.log(figure / (1 - figure)), Z95 * error / (figure * (1 - figure))
    return figure, (1 / (1 + math.exp(reach - odds)), 1 / (1 + math.exp(-odds - reach)))


def area_difference(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None
) -> Difference | None:
    """The difference of two areas under the ROC curve on the same photos (DeLong, DeLong and Clarke-Pearson 1988).

    Args:
        truth: bool `(N,)`.
        first: `(N,)` probability of yes by the first.
        second: `(N,)`, by the second.
        groups: As `paired` takes them.

    Returns:
        None where fewer than two photos have one of the answers.
    """
    if min(int(truth.sum()), int((~truth).sum())) < 2:
        return None
    (one, of_first), (two, of_second) = _influence(truth, first), _influence(truth, second)
    reach = Z95 * math.sqrt(_group_variance(of_second - of_first, groups))
    return Difference(one, two, two - one, (two - one - reach, two - one + reach), len(truth))


def _influence(truth: np.ndarray, p: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and how far each photo pulls it `(N,)`; the squares of the latter sum up to DeLong's variance."""
    yes, no = p[truth], p[~truth]
    pull = np.empty(len(p))
    pull[truth] = _above(np.sort(no), yes)
    pull[~truth] = 1 - _above(np.sort(yes), no)
    figure = float(pull[truth].mean())
    for side in (truth, ~truth):
        count = int(side.sum())
        pull[side] = (pull[side] - figure) / count * math.sqrt(count / max(count - 1, 1))
    return figure, pull


def _above(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Share of `ordered` that lies below each value, ties by half."""
    sides = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(sides / (2 * len(ordered)))


def _group_variance(pull: np.ndarray, groups: np.ndarray | None) -> float:
    if groups is None:
        return float((pull**2).sum())
    return float((np.bincount(np.unique(groups, return_inverse=True)[1], pull) ** 2).sum())


def _wilson_distances(hits: float, n: float) -> Interval:
    """How far Wilson's interval reaches below and above a share; `hits` and `n` need not be whole."""
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(max(0.0, share * (1 - share)) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return share - max(0.0, middle - half), min(1.0, middle + half) - share


def _combined_interval(figure: float, second: Interval, first: Interval, phi: float) -> Interval:
    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    return figure - reach(second[0], first[1]), figure + reach(second[1], first[0])
