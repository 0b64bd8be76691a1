"""Probabilities that mean what they say, and the threshold that the two costs ask for; both from the val split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, ndtr

ENOUGH_GOLD = 50
"""Gold labels in val, both answers among them, from which they replace the teacher's as the measure."""
PRIOR = 1.0
"""Strength, in images, of the belief that the scores need no change; it rules when val is tiny."""


@dataclass(frozen=True)
class Truth:
    """What the val images are held against; rows as in the split."""

    probability: np.ndarray
    """float64 `(N,)` in [0, 1]: gold as 0 or 1, or the teacher's."""
    weight: np.ndarray
    """float64 `(N,)`, >= 0; rows without a gold label weigh 0 when gold is the measure."""
    against: str
    """`gold` or `teacher`."""


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale x logit + shift)."""

    scale: float
    shift: float
    against: str
    images: int

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits `(N,)` -> calibrated probabilities float32 `(N,)`."""
        return np.asarray(expit(self.scale * logits + self.shift), np.float32)

    def described(self) -> dict[str, Any]:
        """For the metadata."""
        return {
            "method": "platt",
            "scale": self.scale,
            "shift": self.shift,
            "against": self.against,
            "images": self.images,
        }


def truth(gold: np.ndarray, p_teacher: np.ndarray, weight: np.ndarray) -> Truth:
    """Gold where there is enough of it, else the teacher's probabilities with gold laid over them.

    Args:
        gold: float64 `(N,)`: 1, 0, or NaN where there is none.
        p_teacher: `(N,)` in [0, 1].
        weight: `(N,)`, the labels' weights.
    """
    known = ~np.isnan(gold)
    if known.sum() >= ENOUGH_GOLD and 0 < gold[known].sum() < known.sum():
        return Truth(np.where(known, gold, 0.0), known.astype(np.float64), "gold")
    return Truth(np.where(known, gold, p_teacher), np.where(known, 1.0, weight), "teacher")


def calibrate(logits: np.ndarray, held: Truth) -> Calibration:
    """Fit scale and shift by maximum likelihood (Platt 1999).

    With the shift at 0 this is temperature scaling (Guo et al. 2017); the shift undoes what class weighting did to the
    share of yes. Soft targets are used as they are. A weak prior holds scale 1 and shift 0 where there is little data.
    """

    def loss(x: np.ndarray) -> float:
        z = np.exp(x[0]) * logits + x[1]
        likelihood = held.probability * np.logaddexp(0, -z) + (1 - held.probability) * np.logaddexp(0, z)
        return float((held.weight * likelihood).sum() + PRIOR * (x[0] ** 2 + x[1] ** 2))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).x
    images = int((held.weight > 0).sum())
    return Calibration(round(float(np.exp(found[0])), 6), round(float(found[1]), 6), held.against, images)


def threshold(probability: np.ndarray, held: Truth, false_yes_cost: float, false_no_cost: float) -> float:
    """The probability from which "yes" costs least on val.

    A few hundred images make the plain count of errors a ragged function of the threshold. Each score is therefore
    blurred by a Gaussian of Silverman's width (1986), in log-odds, and the expected cost is minimised.

    Returns:
        In [0.01, 0.99].
    """
    scores = np.log(np.clip(probability, 1e-6, 1 - 1e-6)) - np.log(np.clip(1 - probability, 1e-6, 1 - 1e-6))
    width = max(float(0.9 * scores.std() * len(scores) ** -0.2), 0.1)
    grid = np.linspace(-4.59, 4.59, 460)  # log-odds of 0.01 to 0.99
    above = ndtr((scores[None, :] - grid[:, None]) / width)
    yes = held.weight * held.probability
    cost = above @ (false_yes_cost * (held.weight - yes)) + (1 - above) @ (false_no_cost * yes)
    return round(float(expit(grid[int(np.argmin(cost))])), 4)


def cost(probability: np.ndarray, held: Truth, at: float, false_yes_cost: float, false_no_cost: float) -> float:
    """Mean cost of the answers on val, in the units of the two costs."""
    yes, answer = held.probability >= 0.5, probability >= at
    each = np.where(answer & ~yes, false_yes_cost, 0.0) + np.where(~answer & yes, false_no_cost, 0.0)
    return float((held.weight * each).sum() / max(held.weight.sum(), 1e-9))
