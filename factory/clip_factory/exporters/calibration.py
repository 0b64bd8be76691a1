"""Calibrated probabilities: the student's logits are fitted to photos that it never saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

PRIOR_STRENGTH = 1.0
"""Weight, in images, of the prior that the scores need no change; it decides where there is little to fit to."""


@dataclass(frozen=True)
class SoftTruth:
    """The right answers for held-out images, as probabilities."""

    probability: np.ndarray
    """float64 `(N,)` in [0, 1], that the right answer is yes: gold as 0 or 1, else the teacher's."""
    base_rate: float
    """The share of yes among all images that this rests on, in [0, 1]."""
    against: str
    """`gold`, `gold and teacher`, or `teacher`."""

    def select(self, rows: np.ndarray) -> SoftTruth:
        """The same for some of the rows, bool `(N,)` or int `(M,)`; the base rate stays that of all."""
        return SoftTruth(self.probability[rows], self.base_rate, self.against)


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale x logit + shift)."""

    scale: float
    shift: float
    against: str
    """As of `SoftTruth`."""
    images: int

    @classmethod
    def read(cls, text: str) -> Calibration:
        """The calibration that a model's metadata holds as JSON."""
        stored = json.loads(text)
        return cls(stored["scale"], stored["shift"], stored["against"], stored["images"])

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Logits `(N,)` -> calibrated probabilities float32 `(N,)`."""
        return np.asarray(expit(self.scale * logits + self.shift), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For the metadata."""
        return {
            "method": "platt",
            "scale": self.scale,
            "shift": self.shift,
            "against": self.against,
            "images": self.images,
        }


def soft_truth(gold: np.ndarray, p_teacher: np.ndarray, unbiased: np.ndarray) -> SoftTruth:
    """Gold where there is any, else the teacher's probability, itself calibrated on the gold labels that are unbiased.

    The more photos drawn at random people have labeled, the more the base rate is theirs: the teacher's log-odds are
    scaled and shifted to fit them (Platt 1999), against a prior that leaves them as they are.

    Args:
        gold: float64 `(N,)`: 1, 0, or NaN where there is none.
        p_teacher: `(N,)` in [0, 1]; of a photo with gold, by labels of other photos.
        unbiased: bool `(N,)`, false where gold was asked for because the photo looked doubtful.
    """
    labeled = ~np.isnan(gold)
    rows = labeled & unbiased
    log_odds = logit(np.clip(p_teacher.astype(np.float64), 1e-4, 1 - 1e-4))
    scale, shift = fit_platt(log_odds[rows], gold[rows])
    probability = np.where(labeled, gold, expit(scale * log_odds + shift))
    against = "gold" if labeled.all() else "gold and teacher" if labeled.any() else "teacher"
    return SoftTruth(probability, float(probability.mean()) if len(probability) else 0.5, against)


def calibrate(logits: np.ndarray, truth: SoftTruth) -> Calibration:
    """Scale and shift that bring the student's logits `(N,)` to the probabilities of `truth`, soft as they are.

    With the shift at 0 this is temperature scaling (Guo et al. 2017); the shift undoes what class weighting did to the
    share of yes. Every image counts alike, so that the mean of the probabilities is the share of yes.
    """
    scale, shift = fit_platt(logits, truth.probability)
    return Calibration(round(scale, 6), round(shift, 6), truth.against, len(logits))


def fit_platt(logits: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Scale and shift of maximum likelihood (Platt 1999), under a weak prior for scale 1 and shift 0.

    Args:
        logits: `(N,)`.
        target: `(N,)` in [0, 1].
    """

    def loss(x: np.ndarray) -> float:
        z = np.exp(x[0]) * logits + x[1]
        likelihood = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
        return float(likelihood.sum() + PRIOR_STRENGTH * (x[0] ** 2 + x[1] ** 2))

    optimum = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).x
    return float(np.exp(optimum[0])), float(optimum[1])
