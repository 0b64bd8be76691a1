"""Classes as Gaussians that share one covariance, found by expectation-maximization from what the words say.

Linear discriminant analysis with soft labels: the words' probability of each class is the prior of each photo, the
class means and the one covariance come from all photos, weighted by what they are taken for, and both are refined in
turns. With the words as prior this is transductive zero-shot classification, as Zanella et al. 2024 ("TransCLIP",
arXiv:2406.01837) do it with a Laplacian term beside; docs/better_labels.md has what it was compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

COMPONENTS = 64
"""Principal components of the vectors in which the classes are sought."""
SHRINKAGE = 0.2
"""Share of the covariance that is replaced by a sphere of the same trace."""
ROUNDS = 10
AT_ONCE = 20_000
"""Photos that are projected in one go; of more than this, a random sample of as many is what is fitted to."""
THREADS = 1
"""Of BLAS: cores that others use make threads wait for each other."""


@dataclass(frozen=True, eq=False)
class GaussianClasses:
    """K Gaussians of one covariance, as linear functions of a point in d dimensions."""

    weights: np.ndarray
    """float64 `(d, K)`."""
    biases: np.ndarray
    """float64 `(K,)`."""

    def log_likelihoods(self, points: np.ndarray) -> np.ndarray:
        """Log-likelihood of each class, up to a term that is the same for all: points `(N, d)` to float64 `(N, K)`."""
        return np.asarray(points @ self.weights + self.biases)


def principal_components(vectors: np.ndarray) -> np.ndarray:
    """The first principal components of vectors `(N, D)`: float64 `(N, d)`, d at most `COMPONENTS`.

    Center and directions come from at most `AT_ONCE` of them; nothing of the size of all is made beside the result.
    """
    sample = vectors[sampled(len(vectors))].astype(np.float64)
    center = sample.mean(axis=0)
    sample -= center
    with threadpool_limits(THREADS):
        values, directions = np.linalg.eigh(sample.T @ sample)
        chosen = directions[:, np.argsort(-values)[:COMPONENTS]]
        points = np.empty((len(vectors), chosen.shape[1]))
        for start in range(0, len(vectors), AT_ONCE):
            points[start : start + AT_ONCE] = (vectors[start : start + AT_ONCE] - center) @ chosen
    return points


def sampled(count: int) -> np.ndarray:
    """Which of `count` photos are fitted to: all, or a random `AT_ONCE` of them, always the same; int, ascending."""
    if count <= AT_ONCE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, AT_ONCE, replace=False))


def fit(points: np.ndarray, log_prior: np.ndarray) -> GaussianClasses:
    """Find the classes.

    Args:
        points: float64 `(N, d)`.
        log_prior: float64 `(N, K)`: log-probability of each class for each photo, by the words alone.

    Returns:
        The classes; what a photo is taken for is `log_prior` plus their log-likelihoods, normalized.
    """
    shares = softmax(log_prior)
    with threadpool_limits(THREADS):
        center = points.mean(axis=0)
        total = (points - center).T @ (points - center) / len(points)
        for _ in range(ROUNDS):
            classes = _maximized(points, shares, center, total)
            shares = softmax(log_prior + classes.log_likelihoods(points))
    return classes


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits `(N, K)` to probabilities; each row sums to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _maximized(points: np.ndarray, shares: np.ndarray, center: np.ndarray, total: np.ndarray) -> GaussianClasses:
    """The Gaussians that fit best, where `shares` says how much of each photo belongs to each class."""
    sizes = shares.sum(axis=0) + 1e-9  # a class that no photo is taken for keeps a mean
    means = (shares.T @ points + 1e-9 * center) / sizes[:, None]
    apart = means - center
    within = total - (apart.T * (sizes / len(points))) @ apart
    sphere = np.trace(within) / len(center) * np.eye(len(center))
    weights = np.linalg.solve((1 - SHRINKAGE) * within + SHRINKAGE * sphere + 1e-12 * np.eye(len(center)), means.T)
    return GaussianClasses(weights, -0.5 * (means.T * weights).sum(axis=0))
