"""Have the inputs moved? Scores that a model gives now against those it gave when it was made.

Only the scores are looked at: photos may have changed in ways that leave them as they were, and a steady histogram is
no proof that the answers are still right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from clip_factory.runtime.runtime_errors import ModelError
from clip_factory.runtime.score_histogram import BINS, Counts, check_counts

NOTICEABLE: Final = 0.1
LARGE: Final = 0.25
"""The customary bands of the population stability index: below 0.1 steady, from 0.25 on moved."""
SIGNIFICANCE: Final = 0.01
"""A difference that chance gives less often than this is taken for real."""
MIN_EXPECTED: Final = 5.0
"""Photos that a bin must lead one to expect in the smaller sample; bins with fewer are joined with their neighbors."""
UNSURE: Final = (0.2, 0.8)
"""Scores between these count as unsure."""

Verdict = Literal["steady", "shifted", "moved", "unknown"]


@dataclass(frozen=True)
class Drift:
    """How far scores have moved, in figures and in words."""

    verdict: Verdict
    """`steady`; `shifted`: noticeably; `moved`: far; `unknown`: too few photos to decide."""
    says: str
    """The finding in one or two sentences."""
    advice: str
    """What to do next."""
    photos_then: int
    """Photos behind the model's own histogram: its validation and test photos."""
    photos_now: int
    psi: float | None
    """Population stability index, 0 or more; None if one side is empty."""
    psi_by_chance: float | None
    """What the index would exceed by chance alone once in 100 times, at these sample sizes."""
    ks: float | None
    """Kolmogorov-Smirnov distance in [0, 1], at the edges of the bins, so at most the true one."""
    ks_p: float | None
    """How often chance gives a distance as large, in [0, 1]; on the high side, because scores are binned."""
    mean_then: float | None
    """Mean score, from the middles of the bins, in [0, 1]."""
    mean_now: float | None
    unsure_then: float | None
    """Share in [0, 1] of the scores from 0.2 to 0.8."""
    unsure_now: float | None


def stored_histogram(metadata: Mapping[str, str]) -> Counts:
    """The histogram stored in a model: `(20,)` counts of its scores on validation and test photos.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    if "score_histogram" not in metadata:
        raise ModelError("metadata without score_histogram: nothing to compare with", hint="export the model again")
    try:
        counts = json.loads(metadata["score_histogram"])
    except (ValueError, RecursionError):
        raise ModelError("`score_histogram` is not JSON") from None
    return check_counts(counts, "`score_histogram`")


def compare(then: Counts, now: Counts) -> Drift:
    """Compare two histograms of scores.

    Args:
        then: `(20,)` counts of the model's own photos.
        now: `(20,)` counts of the photos it is asked about.
    """
    sizes = int(then.sum()), int(now.sum())
    if 0 in sizes:
        summary, advice = (
            ("There are no scores to compare.", "Ask the model about some photos first.")
            if sizes[1] == 0
            else ("The model's own histogram is empty.", "Export the model again, with photos in its validation split.")
        )
        return Drift("unknown", summary, advice, *sizes, *[None] * 8)
    pooled_then, pooled_now = pool(then, now)
    psi = population_stability(pooled_then, pooled_now)
    by_chance = psi_by_chance(len(pooled_then), *sizes)
    ks, ks_p = kolmogorov_smirnov(then, now)
    verdict = _verdict(psi, by_chance, ks_p)
    means = _mean(then), _mean(now)
    unsure = _unsure(then), _unsure(now)
    summary = _summary(verdict, psi, sizes, means, unsure)
    return Drift(verdict, summary, _advice(verdict, unsure), *sizes, psi, by_chance, ks, ks_p, *means, *unsure)


def pool(then: Counts, now: Counts) -> tuple[Counts, Counts]:
    """Join neighboring bins until each leads one to expect 5 photos in the smaller sample, were there no drift.

    Most scores lie at the ends, so that single bins in the middle hold a handful of photos whose chance ups and downs
    would drown the index.

    Returns:
        Two arrays `(B,)`, 1 <= B <= 20.
    """
    both = then + now
    smaller = min(then.sum(), now.sum()) / max(both.sum(), 1)
    starts, pending = [0], 0.0
    for index, count in enumerate(both.tolist()):
        if pending * smaller >= MIN_EXPECTED:
            starts.append(index)
            pending = 0.0
        pending += count
    if len(starts) > 1 and pending * smaller < MIN_EXPECTED:  # what is left over goes to the last full bin
        starts.pop()
    return np.add.reduceat(then, starts), np.add.reduceat(now, starts)


def population_stability(then: Counts, now: Counts) -> float:
    """The population stability index: the sum over bins of (q - p) ln(q / p), for shares p then and q now.

    Half a photo is added to every bin, so that an empty one gives no infinity.
    """
    p, q = _shares(then), _shares(now)
    return float(((q - p) * np.log(q / p)).sum())


def psi_by_chance(bins: int, then: int, now: int) -> float:
    """What the index exceeds once in 100 times when nothing has moved.

    Without drift the index is distributed like (1/then + 1/now) times chi-squared with bins - 1 degrees of freedom
    (Yurdakul and Naranjo, Statistical properties of the population stability index, 2020); its quantile is Wilson and
    Hilferty's (1931).

    Args:
        bins: How many bins, after pooling.
        then: Photos on one side, 1 or more.
        now: Photos on the other side, 1 or more.
    """
    free = max(bins - 1, 1)
    spread = 2 / (9 * free)
    quantile = free * (1 - spread + NormalDist().inv_cdf(1 - SIGNIFICANCE) * math.sqrt(spread)) ** 3
    return quantile * (1 / then + 1 / now)


def kolmogorov_smirnov(then: Counts, now: Counts) -> tuple[float, float]:
    """The two-sample Kolmogorov-Smirnov test on binned scores.

    Returns:
        The largest difference of the cumulated shares, in [0, 1], and its p-value: Kolmogorov's series with Stephens'
        (1970) correction for finite samples. Binning makes the distance smaller and so the p-value larger.
    """
    n, m = float(then.sum()), float(now.sum())
    distance = float(np.abs(np.cumsum(then) / n - np.cumsum(now) / m).max())
    root = math.sqrt(n * m / (n + m))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:  # the series converges too slowly there, and the answer is 1 to eight digits
        return distance, 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return distance, min(1.0, max(0.0, 2 * math.fsum(terms)))


def _verdict(psi: float, by_chance: float, ks_p: float) -> Verdict:
    real = psi > by_chance or ks_p < SIGNIFICANCE
    if real and psi >= LARGE:
        return "moved"
    if real and psi >= NOTICEABLE:
        return "shifted"
    # nothing found means something only where a large move would have been found
    return "steady" if by_chance <= LARGE else "unknown"


def _summary(
    verdict: Verdict, psi: float, sizes: tuple[int, int], means: tuple[float, float], unsure: tuple[float, float]
) -> str:
    finding = {
        "steady": "The scores are as they were when the model was made.",
        "shifted": "The scores have shifted noticeably since the model was made.",
        "moved": "The inputs have moved: the scores are far from those that the model gave when it was made.",
        "unknown": "There are too few photos to say whether the inputs have moved.",
    }[verdict]
    change = (
        f"Mean score {means[0]:.2f} then, {means[1]:.2f} now; unsure (0.2 to 0.8) {unsure[0]:.0%} then,"
        f" {unsure[1]:.0%} now; stability index {psi:.2f} over {sizes[1]:,} photos."
    )
    return f"{finding} {change}"


def _advice(verdict: Verdict, unsure: tuple[float, float]) -> str:
    if verdict == "steady":
        return "Nothing to do. Scores alone do not show whether the answers are right: check some by hand now and then."
    if verdict == "unknown":
        return "Collect the scores of some hundred photos, then ask again."
    if unsure[1] > 1.5 * unsure[0] + 0.02:
        return (
            "More photos leave the model unsure: they may be unlike those it was made from (another camera, place or"
            " season). Look at the unsure ones, and run the scenario again with some of the new photos."
        )
    return (
        "The model is as sure as before, so there may only be more of one kind of photo than there was. Check 50"
        " answers by hand; if they are right, go on, and if not, run the scenario again with some of the new photos."
    )


def _shares(counts: Counts) -> NDArray[np.float64]:
    smoothed = counts + 0.5
    return np.asarray(smoothed / smoothed.sum())


def _mean(counts: Counts) -> float:
    return float(counts @ ((np.arange(BINS) + 0.5) / BINS) / counts.sum())


def _unsure(counts: Counts) -> float:
    low, high = (round(edge * BINS) for edge in UNSURE)
    return float(counts[low:high].sum() / counts.sum())
