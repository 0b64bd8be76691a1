"""Answers and what a student that was never trained could say to them."""

from __future__ import annotations

import numpy as np
from scipy.special import expit


def scored(n: int = 4000, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Answers, and calibrated probabilities of a student with an AUC near .95."""
    random = np.random.default_rng(seed)
    yes = random.random(n) < share
    scores = random.normal(0, 1, n) + 2.3 * yes
    return yes, expit(2.3 * scores - 2.3**2 / 2 + np.log(share / (1 - share)))
