"""Probabilities that mean what they say, fitted on photos that the student never saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

PRIOR = 1.0
"""Strength, in images, of the belief that the scores need no change; it rules where there is little to fit to."""


@dataclass(frozen=True)
class Truth:
    """What held-out images are held against."""

    probability: np.ndarray
    """float64 `(N,)` in [0, 1], that the right answer is yes: gold as 0 or 1, else the teacher's."""
    base_rate: float
    """The share of yes among all images that this rests on, in [0, 1]."""
    against: str
    """`gold`, `gold and teacher`, or `teacher`."""

    def of(self, rows: np.ndarray) -> Truth:
        """The same for some of the rows, bool `(N,)` or int `(M,)`; the base rate stays that of all."""
        return Truth(self.probability[rows], self.base_rate, self.against)


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale x logit + shift)."""

    scale: float
    shift: float
    against: str
    images: int

    @classmethod
    def read(cls, text: str) -> Calibration:
        """The calibration that a model's metadata holds as JSON."""
        said = json.loads(text)
        return cls(said["scale"], said["shift"], said["against"], said["images"])

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


def truth(gold: np.ndarray, p_teacher: np.ndarray, fair: np.ndarray) -> Truth:
    """Gold where there is any, else the teacher's probability, itself calibrated on the gold labels that are fair.

    The more people have said of photos drawn at random, the more the base rate is theirs: the teacher's log-odds are
    scaled and shifted to fit them (Platt 1999), against a prior that leaves them as they are.

    Args:
        gold: float64 `(N,)`: 1, 0, or NaN where there is none.
        p_teacher: `(N,)` in [0, 1]; of a photo with gold, by labels of other photos.
        fair: bool `(N,)`, false where gold was asked for because the photo looked doubtful.
    """
    known = ~np.isnan(gold)
    rows = known & fair
    odds = logit(np.clip(p_teacher.astype(np.float64), 1e-4, 1 - 1e-4))
    p = fitted(odds[rows], gold[rows])
    probability = np.where(known, gold, expit(p[0] * odds + p[1]))
    against = "gold" if known.all() else "gold and teacher" if known.any() else "teacher"
    return Truth(probability, float(probability.mean()) if len(probability) else 0.5, against)


def calibrate(logits: np.ndarray, held: Truth) -> Calibration:
    """Scale and shift that bring the student's logits `(N,)` to the probabilities of `held`, soft targets as they are.

    With the shift at 0 this is temperature scaling (Guo et al. 2017); the shift undoes what class weighting did to the
    share of yes. Every image counts alike, so that the mean of the probabilities is the share of yes.
    """
    scale, shift = fitted(logits, held.probability)
    return Calibration(round(scale, 6), round(shift, 6), held.against, len(logits))


def fitted(logits: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Scale and shift of maximum likelihood (Platt 1999), under a weak prior for scale 1 and shift 0.

    Args:
        logits: `(N,)`.
        target: `(N,)` in [0, 1].
    """

    def loss(x: np.ndarray) -> float:
        z = np.exp(x[0]) * logits + x[1]
        likelihood = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
        return float(likelihood.sum() + PRIOR * (x[0] ** 2 + x[1] ** 2))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).x
    return float(np.exp(found[0])), float(found[1])
