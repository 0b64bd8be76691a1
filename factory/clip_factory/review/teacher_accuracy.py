"""How often the teacher is right, and whether asking more people would change that figure."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np

from clip_factory.statistics import wilson

NEXT_BATCH = 5
"""Random answers that the next batch brings: a fifth of 25."""
SETTLED = 0.01
"""The estimate is settled when the next batch is expected to move it by less than this (one point)."""
MIN_ANSWERS = 30
"""Random answers below which nothing is settled."""


class AccuracyEstimate(TypedDict):
    """How often the teacher is right, from the random sample alone."""

    accuracy: float | None
    """In [0, 1]; None before the first answer to a random photo."""
    interval: tuple[float, float]
    """95 % Wilson interval; (0, 1) without answers."""
    n: int
    """Random photos that were answered yes or no."""
    enough: bool
    """More review would hardly move the figure."""
    says: str
    """The same in a sentence or two, for people."""


def expected_change(hits: int, n: int, more: int) -> float:
    """Standard deviation of the change that `more` random answers bring to a share of `hits` in `n`.

    That of the mean of n + more independent answers minus that of the first n; the share is drawn to 1/2 by two
    answers on each side (Agresti and Coull 1998), so that a perfect beginning does not count as certainty.
    """
    share = (hits + 2) / (n + 4)
    return math.sqrt(share * (1 - share) * more / (n * (n + more))) if n else 1.0


def estimate_accuracy(hits: np.ndarray, waiting: int, unsure: int, images: int) -> AccuracyEstimate:
    """The estimate from the answered random photos.

    Args:
        hits: bool `(n,)`, whether the teacher was right.
        waiting: Photos of the random sample without an answer.
        unsure: Random photos on which people cannot tell or disagree; they are left out.
        images: All photos of the run.
    """
    n, right = len(hits), int(hits.sum())
    if not n:
        says = "No photo that was drawn at random has an answer yet: the teacher's accuracy is not known."
        return {"accuracy": None, "interval": (0.0, 1.0), "n": 0, "enough": False, "says": says}
    change, low_high = expected_change(right, n, NEXT_BATCH), wilson(right, n)
    all_seen = n + unsure >= images
    enough = waiting == 0 and (all_seen or (n >= MIN_ANSWERS and change < SETTLED))
    says = (
        f"The teacher is right on {right / n:.1%} of {n} photos drawn at random "
        f"(95 % interval {low_high[0]:.1%} to {low_high[1]:.1%})."
    )
    if unsure:
        says += f" {unsure} more without a clear answer are left out."
    if enough:
        says += " Every photo is answered." if all_seen else " More answers would hardly move this figure."
    elif waiting:
        says += f" {waiting} of those drawn wait for an answer."
    else:
        says += (
            f" The next {NEXT_BATCH} are expected to move it by {change:.1%}; below {SETTLED:.0%} it counts as settled."
        )
    return {"accuracy": right / n, "interval": low_high, "n": n, "enough": enough, "says": says}
