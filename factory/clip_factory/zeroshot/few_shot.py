"""Zero-shot beside few-shot: logistic regression on k labeled photos of each class, on the stored vectors.

The linear probe of Radford et al. 2021 (arXiv:2103.00020, figure 6): how many labels are words worth?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from clip_factory.errors import GoldError

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10
"""Random draws of k photos a class; the spread is over these."""
INVERSE_PENALTY = 10.0
"""C of scikit-learn on vectors of mean square length 1 around their mean: alike from 1 to 100 on k up to 16."""
FOLDS = 2
"""One half of the photos is drawn from, the other is measured on; near-duplicates lie on one side."""


@dataclass(frozen=True, eq=False)
class FewShot:
    """Accuracy by number of labeled photos of each class, all on the same photos."""

    shots: tuple[int, ...]
    accuracy: np.ndarray
    """float64 `(K, DRAWS)` in [0, 1]."""
    zero_shot: float
    """Of the words, on the same photos."""
    photos: int
    """How many these are."""

    @property
    def mean(self) -> np.ndarray:
        """float64 `(K,)`."""
        return np.asarray(self.accuracy.mean(axis=1))

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over draws, float64 `(K,)`."""
        return np.asarray(self.accuracy.std(axis=1, ddof=1))

    @property
    def worth(self) -> float | None:
        """How many labeled photos of each class the words are worth; None where they are worth more than were tried."""
        means = np.maximum.accumulate(self.mean)
        if self.zero_shot > means[-1]:
            return None
        return float(2 ** np.interp(self.zero_shot, means, np.log2(self.shots)))


def few_shot(vectors: np.ndarray, truth: np.ndarray, groups: np.ndarray, answers: np.ndarray) -> FewShot:
    """Fit on a few photos of each class of one half, measure on the other.

    Args:
        vectors: float32 `(M, D)`.
        truth: int `(M,)`: the class of each.
        groups: int `(M,)`: near-duplicates share a number.
        answers: int `(M,)`: what zero-shot says.

    Raises:
        GoldError: A class has fewer than two photos that are no near-duplicates, or there is one class alone.
    """
    classes = np.unique(truth)
    if len(classes) < 2 or min(len(set(groups[truth == k].tolist())) for k in classes) < FOLDS:
        raise GoldError("few-shot needs two classes with two different photos each", hint="leave out --probe")
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    pool, held = next(splitter.split(vectors, truth, groups))
    centered = vectors - vectors.mean(axis=0)
    centered /= np.sqrt((centered**2).sum(axis=1).mean()) or 1.0
    room = min(int((truth[pool] == k).sum()) for k in classes)
    shots = tuple(k for k in SHOTS if k <= room)
    if not shots:
        raise GoldError("few-shot needs a photo of each class in either half", hint="leave out --probe")
    with threadpool_limits(1):
        accuracy = np.array([[_accuracy(centered, truth, pool, held, k, draw) for draw in range(DRAWS)] for k in shots])
    return FewShot(shots, accuracy, float((answers[held] == truth[held]).mean()), len(held))


def _accuracy(
    vectors: np.ndarray, truth: np.ndarray, pool: np.ndarray, held: np.ndarray, shots: int, draw: int
) -> float:
    random = np.random.default_rng([shots, draw])
    drawn = np.concatenate([random.choice(pool[truth[pool] == k], shots, replace=False) for k in np.unique(truth)])
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000).fit(vectors[drawn], truth[drawn])
    return float(model.score(vectors[held], truth[held]))
