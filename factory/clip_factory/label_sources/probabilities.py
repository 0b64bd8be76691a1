"""Probabilities of yes: from scores of phrases, as log-odds, their doubt and their cost."""

from __future__ import annotations

import numpy as np

MIN_P = 1e-4
"""Fitted probabilities stay this far from 0 and 1: a hundred labels cannot show more."""


def log_odds(scores: np.ndarray, positives: int) -> np.ndarray:
    """Log-odds of yes, float64 `(N,)`, from probabilities of phrases `(N, P)`, the positive ones first."""
    sides = scores.astype(np.float64)
    yes, no = sides[:, :positives].sum(axis=1), sides[:, positives:].sum(axis=1)
    return np.asarray(np.log(np.maximum(yes, 1e-30)) - np.log(np.maximum(no, 1e-30)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of log-odds, float64."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500).astype(np.float64))))


def logit(p: np.ndarray) -> np.ndarray:
    """Log-odds of probabilities in [0, 1], float64; those within `MIN_P` of 0 or 1 count as that far from it."""
    p = np.clip(p.astype(np.float64), MIN_P, 1 - MIN_P)
    return np.asarray(np.log(p / (1 - p)))


def entropy(p: np.ndarray) -> np.ndarray:
    """Doubt of probabilities of yes, in bits: 0 sure, 1 wholly undecided."""
    p = np.clip(p.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def log_loss(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Cost of each probability of yes in nats, given the right label (1 or 0)."""
    p = np.clip(p, MIN_P, 1 - MIN_P)
    return np.asarray(-np.log(np.where(labels == 1, p, 1 - p)))
