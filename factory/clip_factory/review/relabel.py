"""The labels as the `label` stage would write them with all answers so far, and which of them look wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from clip_factory.gold.gold_labels import Gold
from clip_factory.label_sources.probabilities import MIN_P, entropy, sigmoid
from clip_factory.label_sources.probe import THREADS
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.labels import hard_labels
from clip_factory.review.pool import Pool

FOLDS = 5


@dataclass(frozen=True, eq=False)
class CurrentLabels:
    """What `factory label` would write now; arrays have length N."""

    p: np.ndarray
    """The teacher's probability of yes, in [0, 1]; never fitted to the image's own answer."""
    doubt: np.ndarray
    """Entropy of `p` in bits, in [0, 1]."""
    others: np.ndarray
    """Probability of yes by the labels of the other photos, from the vectors alone: out of sample for every photo."""
    learned: bool
    """Whether there were labels enough to compare a probe with the words, and so for doubt to mean something."""
    sentence: str
    """What the answers have done to the labels."""

    def mistake(self, gold: np.ndarray) -> np.ndarray:
        """How likely each label in force is wrong, in [0, 1]: one minus cleanlab's label quality score.

        Confident learning (Northcutt et al. 2021, arXiv:1911.00068).

        Args:
            gold: `(N,)`: 1 yes, 0 no, NaN where there is none.
        """
        from cleanlab.rank import get_label_quality_scores  # pulls pandas: a second, when the page first asks

        return np.asarray(1 - get_label_quality_scores(self._in_force(gold), self._pairs()))

    def suspects(self, gold: np.ndarray) -> np.ndarray:
        """Which labels in force cleanlab reports as mistakes, `(N,)`; none where all labels are on one side."""
        from cleanlab.filter import find_label_issues

        labels = self._in_force(gold)
        if len(set(labels.tolist())) < 2:
            return np.zeros(len(labels), bool)
        return np.asarray(find_label_issues(labels, self._pairs(), n_jobs=1), bool)

    def _in_force(self, gold: np.ndarray) -> np.ndarray:
        return hard_labels(self.p, gold, 0.5).astype(int)

    def _pairs(self) -> np.ndarray:
        return np.stack([1 - self.others, self.others], axis=1)


def relabel(pool: Pool, gold: Gold) -> CurrentLabels:
    """Refine the pool's labels with people's answers, as the `label` stage does; no photo is opened."""
    known = pseudo_labels(pool, gold)
    refined = pool.refinement.refine(known)
    others = _by_others(pool, hard_labels(refined.p, known.gold, 0.5).astype(int))
    learned = refined.figures.get("accuracy") is not None
    return CurrentLabels(refined.p, entropy(refined.p), others, learned, refined.sentence)


def pseudo_labels(pool: Pool, gold: Gold) -> PseudoLabels:
    """What refinement is given of the pool and people's answers."""
    return PseudoLabels(
        pool.log_odds,
        sigmoid(pool.log_odds),
        pool.vectors,
        gold.column(pool.sha256),
        pool.groups,
        pool.splits,
        ~gold.picked_column(pool.sha256),
        pool.source,
    )


def _by_others(pool: Pool, labels: np.ndarray) -> np.ndarray:
    """Probabilities of yes of a probe fitted to the labels in force of all photos but a fold, near-duplicates together.

    The zero-shot log-odds are left out: with them, the teacher's labels would only be repeated.
    """
    p = np.full(len(labels), labels.mean())
    if len(set(pool.groups.tolist())) < FOLDS:
        return p
    with threadpool_limits(THREADS):
        for train, held in GroupKFold(FOLDS).split(pool.components, labels, pool.groups):
            if len(set(labels[train].tolist())) == 2:
                fit = LogisticRegression(C=1.0, solver="newton-cholesky").fit(pool.components[train], labels[train])
                p[held] = fit.predict_proba(pool.components[held])[:, 1]
    return p.clip(MIN_P, 1 - MIN_P)
