"""The labels as they would be made now, with all that people have said so far, and which of them look wrong."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from clip_factory.label_sources import probe
from clip_factory.review.pool import Photos

FOLDS = 5


@dataclass(frozen=True)
class Labels:
    """What `factory label` would write now; arrays have length N."""

    p: np.ndarray
    """The teacher's probability of yes, in [0, 1]; never fitted to the image's own answer."""
    doubt: np.ndarray
    """Entropy of `p` in bits, in [0, 1]."""
    others: np.ndarray
    """Probability of yes by the labels of the other photos, from the vectors alone: out of sample for every photo."""
    learned: bool
    """Whether there were labels enough to hold a probe against the words, and so for doubt to mean something."""
    says: str
    """What the answers have done to the labels, in a sentence."""

    def in_force(self, said: np.ndarray) -> np.ndarray:
        """Labels as 0 or 1: what people said (`(N,)`, 1, 0 or NaN), else the teacher's answer."""
        return np.where(np.isnan(said), self.p >= 0.5, said == 1).astype(int)

    def mistake(self, said: np.ndarray) -> np.ndarray:
        """How likely each label in force is wrong, in [0, 1]: one minus cleanlab's label quality score.

        Confident learning (Northcutt et al. 2021, arXiv:1911.00068).
        """
        from cleanlab.rank import get_label_quality_scores  # pulls pandas: a second, when the page first asks

        return np.asarray(1 - get_label_quality_scores(self.in_force(said), self._pairs()))

    def suspects(self, said: np.ndarray) -> np.ndarray:
        """Which labels in force cleanlab takes for mistakes, `(N,)`; none where all labels are on one side."""
        from cleanlab.filter import find_label_issues

        labels = self.in_force(said)
        if len(set(labels.tolist())) < 2:
            return np.zeros(len(labels), bool)
        return np.asarray(find_label_issues(labels, self._pairs(), n_jobs=1), bool)

    def _pairs(self) -> np.ndarray:
        return np.stack([1 - self.others, self.others], axis=1)


def label(photos: Photos, gold: dict[str, bool], fair: Set[str]) -> Labels:
    """Label the photos anew from vectors and answers; no photo is opened.

    Args:
        photos: The run's.
        gold: What people said, by sha256.
        fair: The sha256 of images that were not picked for their doubt.
    """
    golden = np.array([gold.get(sha, np.nan) for sha in photos.sha256], np.float64)
    unpicked = np.array([sha in fair for sha in photos.sha256], bool)
    p, found = probe.improve(photos.vectors, photos.logits, golden, photos.groups, photos.splits, unpicked)
    others = _by_others(photos, np.where(np.isnan(golden), p >= 0.5, golden == 1).astype(int))
    return Labels(p, probe.entropy(p), others, found.accuracy is not None, found.says)


def _by_others(photos: Photos, labels: np.ndarray) -> np.ndarray:
    """Probabilities of yes of a probe fitted to the labels in force of all photos but a fold, near-duplicates together.

    The zero-shot log-odds are left out: with them, the teacher's labels would only be repeated.
    """
    p = np.full(len(labels), labels.mean())
    if len(set(photos.groups.tolist())) < FOLDS:
        return p
    with threadpool_limits(probe.THREADS):
        for train, held in GroupKFold(FOLDS).split(photos.components, labels, photos.groups):
            if len(set(labels[train].tolist())) == 2:
                fit = LogisticRegression(C=1.0, solver="newton-cholesky").fit(photos.components[train], labels[train])
                p[held] = fit.predict_proba(photos.components[held])[:, 1]
    return p.clip(probe.SURE, 1 - probe.SURE)
