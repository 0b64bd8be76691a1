"""What to ask next: uncertainty sampling of photos that differ, and random sampling, which measures the teacher.

The random share follows one fixed order of all photos, made from their hashes alone, in which photos of the test split
take every other place. The sample is a beginning of that order. A photo that someone answered before its turn came is
counted when its turn comes, and not asked again; so the sample is an unbiased one of all photos, whatever else is
asked, and half of it are test photos, on which the gate measures the student.

The doubtful ones come from the training split: answers picked for their doubt would make the other two, which measure,
harder than the world is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clip_factory.label_sources.probe import THREADS

RANDOM_SHARE = 0.2
"""Of the places in each batch, those that go to the next in the random order."""
CANDIDATES = 4
"""Doubtful photos among which a batch is chosen, as a multiple of its size."""


def random_order(sha256s: Sequence[str], splits: Sequence[str]) -> list[int]:
    """All images in an order that knows nothing but hashes; every other one is of the test split while there are any.

    Args:
        sha256s: Hex sha256 of N images.
        splits: train, val or test, N times.
    """
    keys = [hashlib.sha256(f"review:{sha}".encode()).digest() for sha in sha256s]
    shuffled = sorted(range(len(keys)), key=keys.__getitem__)
    tests = [i for i in shuffled if splits[i] == "test"]
    others = [i for i in shuffled if splits[i] != "test"]
    return [i for pair in zip_longest(tests, others) for i in pair if i is not None]


def sample_tests(rest: Sequence[int], fresh: np.ndarray, n: int) -> list[int]:
    """The next places of the random order of test photos: about as many as hold `n` that no one has answered.

    How many places that is follows from how many of the rest are unanswered, never from where these stand. Walking on
    until there are `n` would end each sample on a photo that no one had picked before, and so lean to the easy ones.

    Args:
        rest: The test photos that were not sampled yet, in the random order.
        fresh: `(N,)`, whether an image has no answer.
        n: How many are wanted to ask; at most that many may be asked of what this returns.

    Returns:
        The first of `rest`; all of it where none of it is left to ask.
    """
    left = sum(bool(fresh[i]) for i in rest)
    if not left:
        return list(rest)
    step = math.ceil(max(0, n) * len(rest) / left)
    places = step
    while n > 0 and not any(fresh[i] for i in rest[:places]):
        places += step
    return list(rest[:places])


def diverse_batch(
    features: np.ndarray, doubt: np.ndarray, groups: np.ndarray, allowed: np.ndarray, n: int
) -> list[int]:
    """A batch of doubtful images that differ: one of each of `n` clusters among the most doubtful.

    Diverse mini-batches (Zhdanov 2019, arXiv:1901.05954): k-means over the most doubtful candidates, weighted by
    doubt; of each cluster the image nearest to its center. No two are of one near-duplicate group.

    Args:
        features: `(N, K)`.
        doubt: `(N,)` in [0, 1].
        groups: `(N,)` near-duplicate groups.
        allowed: `(N,)`, whether an image may be asked.
        n: Size of the batch.

    Returns:
        At most `n` indices, the most doubtful first.
    """
    batch: list[int] = []
    ranked = _one_a_group(np.flatnonzero(allowed)[np.argsort(-doubt[allowed], kind="stable")], groups)
    candidates = ranked[: CANDIDATES * n]
    if len(candidates) > n > 0:
        weights = doubt[candidates] + 1e-6
        with threadpool_limits(THREADS):
            clusters = KMeans(n, n_init=1, random_state=0).fit(features[candidates], sample_weight=weights)
            nearest = clusters.transform(features[candidates]).argmin(axis=0)
        batch = [int(candidates[i]) for i in dict.fromkeys(nearest.tolist())]
    rest = [int(i) for i in candidates if int(i) not in set(batch)]
    batch += rest[: n - len(batch)]
    return sorted(batch, key=lambda i: -doubt[i])


def first_in_order(order: Sequence[int], groups: np.ndarray, allowed: np.ndarray, n: int) -> list[int]:
    """The next `n` in a fixed order, one of each near-duplicate group: how a review begins.

    Before people have answered anything, doubt is only the words', and where these cannot separate the answers it
    points anywhere: on rose against tulip, 25 labels picked by it helped less than 25 at random.
    """
    return [int(i) for i in _one_a_group(np.array([i for i in order if allowed[i]], int), groups)[:n]]


def _one_a_group(ranked: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The first of each group, in the order given."""
    _, first = np.unique(groups[ranked], return_index=True)
    return np.asarray(ranked[np.sort(first)])
