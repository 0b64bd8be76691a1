"""The figures behind the report's plots and tables: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from clip_factory.gate.rule import CONFIDENT
from clip_factory.statistics import wilson

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


class Reliability(NamedTuple):
    """Calibration in bins of equal width; the arrays have one entry for each bin that is not empty."""

    predicted: Floats
    """Mean probability of the images in the bin, in [0, 1]."""
    observed: Floats
    """Share of them that are yes, in [0, 1]."""
    low: Floats
    high: Floats
    """95 % Wilson interval of `observed`."""
    images: NDArray[np.int64]
    """How many there are in the bin."""


def reliability(probability: Floats, truth: Flags, bins: int = 10) -> Reliability:
    """How often yes was right when a probability was given (DeGroot and Fienberg 1983).

    Args:
        probability: `(N,)` in [0, 1].
        truth: `(N,)` whether the answer is yes.
        bins: Number of equal bins over [0, 1].
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    full = count > 0
    total = np.bincount(which, weights=probability, minlength=bins)[full]
    hits = np.bincount(which, weights=truth, minlength=bins)[full].astype(int)
    count = count[full].astype(np.int64)
    low, high = np.array([wilson(int(k), int(n)) for k, n in zip(hits, count, strict=True)]).reshape(-1, 2).T
    return Reliability(total / count, hits / count, low, high, count)


def sweep(probability: Floats, truth: Flags, thresholds: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and false alarms at each of K thresholds.

    Args:
        probability: `(N,)` in [0, 1].
        truth: `(N,)` whether the answer is yes.
        thresholds: `(K,)`; from here on the answer is yes, compared in float32 as the runtime and the gate do.

    Returns:
        int `(K,)` each.
    """
    at, p = thresholds.astype(np.float32), probability.astype(np.float32)
    hits, alarms = (len(side) - np.searchsorted(np.sort(side), at) for side in (p[truth], p[~truth]))
    return hits, alarms


class PrecisionRecall(NamedTuple):
    """A precision-recall curve and its summary."""

    precision: Floats
    recall: Floats
    average: float
    """Average precision, in [0, 1]; the share of yes is what guessing gives."""


def precision_recall(probability: Floats, truth: Flags) -> PrecisionRecall | None:
    """The curve over all thresholds, by rising recall; None when the images are all yes or all no.

    Args:
        probability: `(N,)` in [0, 1].
        truth: `(N,)` whether the answer is yes.
    """
    if truth.all() or not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, probability)
    return PrecisionRecall(precision[::-1], recall[::-1], float(average_precision_score(truth, probability)))


@dataclass(frozen=True)
class Phrase:
    """How one phrase did."""

    text: str
    positive: bool
    wins: int
    """Images on which it has the highest score of all phrases."""
    share: float
    """`wins` over the number of images, in [0, 1]."""
    weight_on_yes: float
    """Mean score on images weighted by their probability of yes, in [0, 1]: for a negative phrase, how much it
    takes from the positive ones where they have a claim."""


def phrase_wins(scores: Floats, positive: Sequence[str], negative: Sequence[str]) -> list[Phrase]:
    """How often each phrase wins, and what it takes where the answer may be yes.

    Args:
        scores: `(N, P)` softmax probabilities, the positive phrases' columns first.
        positive: Phrases for yes.
        negative: Phrases for no; with `positive` they are P.

    Returns:
        One entry a phrase, the positive ones first, each side by falling number of wins.
    """
    images = max(len(scores), 1)
    wins = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) if len(scores) else np.zeros(scores.shape[1])
    yes = scores[:, : len(positive)].sum(axis=1)
    weight_on_yes = yes @ scores / max(yes.sum(), 1e-12)
    phrases = [
        Phrase(text, i < len(positive), int(wins[i]), wins[i] / images, float(weight_on_yes[i]))
        for i, text in enumerate([*positive, *negative])
    ]
    return sorted(phrases, key=lambda phrase: (not phrase.positive, -phrase.wins, -phrase.weight_on_yes))


def most_confused(phrases: Sequence[Phrase]) -> Phrase | None:
    """The negative phrase that takes most from the positive ones; None when there is no negative phrase."""
    return max((p for p in phrases if not p.positive), key=lambda p: p.weight_on_yes, default=None)


def confident_mistakes(probability: Floats, truth: Flags, threshold: float, most: int) -> Indices:
    """Images answered wrongly, the surest first.

    Sureness is the distance from the threshold as a share of the room on that side, so that a wrong no at 0.02 is
    as sure as a wrong yes at 0.98 wherever the threshold lies.

    Args:
        probability: `(N,)` in [0, 1]; NaN where the student was not asked, which is no mistake.
        truth: `(N,)` whether the answer is yes.
        threshold: From here on the answer is yes.
        most: Largest number of images returned.

    Returns:
        Indices into the arrays, at most `most`.
    """
    asked = np.flatnonzero(~np.isnan(probability))
    p = probability[asked]
    room = np.where(p >= threshold, 1 - threshold, threshold)
    sure = np.abs(p - threshold) / np.maximum(room, 1e-12)
    wrong = (p >= threshold) != truth[asked]
    mistakes: Indices = asked[wrong][np.argsort(-sure[wrong], kind="stable")]
    return mistakes[:most]


def most_doubtful(teacher: Floats, has_gold: Flags, most: int) -> Indices:
    """Images that no person has labeled and that the teacher is not confident of, the least sure first.

    Args:
        teacher: `(N,)` probability of yes, in [0, 1].
        has_gold: `(N,)` whether a person has labeled the image.
        most: Largest number of images returned.
    """
    open_ones = np.flatnonzero(~has_gold & (np.maximum(teacher, 1 - teacher) < CONFIDENT))
    return open_ones[np.argsort(np.abs(teacher[open_ones] - 0.5), kind="stable")][:most]


def most_moved(words: Floats, teacher: Floats, most: int) -> Indices:
    """Images whose probability refinement has changed most, of those whose answer at 0.5 is another one.

    Args:
        words: `(N,)` probability of yes before, in [0, 1].
        teacher: `(N,)` after.
        most: Largest number of images returned.
    """
    moved = np.flatnonzero((words >= 0.5) != (teacher >= 0.5))
    return moved[np.argsort(-np.abs(teacher[moved] - words[moved]), kind="stable")][:most]


@dataclass(frozen=True)
class Split:
    """One part of the images."""

    name: str
    images: int
    yes: int
    """Images whose reference (gold, else teacher) is yes."""
    gold: int
    """Images that a person has labeled."""


def splits(split: NDArray[np.str_], reference: Flags, has_gold: Flags) -> list[Split]:
    """Sizes and class balance of train, val and test; all arrays are `(N,)`."""
    parts = [(name, split == name) for name in ("train", "val", "test")]
    return [Split(name, int(p.sum()), int(reference[p].sum()), int(has_gold[p].sum())) for name, p in parts]
