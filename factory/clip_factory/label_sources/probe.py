"""A linear probe on the teacher's vectors: what people's labels add to what the words say.

Logistic regression on the stored image vectors, with the zero-shot log-odds as one more feature that is all but
unpenalized. So the text vectors are the prior: with strong regularization the probe is the zero-shot answer, rescaled
and shifted; the labels then buy departures from it, as many as cross-validation finds worth their price. (Linear
probes on CLIP: Radford et al. 2021, arXiv:2103.00020; text vectors as the start of a few-shot probe: Huang et al.
2024, "LP++", arXiv:2404.02285, and Silva-Rodriguez et al. 2024, "CLAP", arXiv:2312.12730.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

LEAST_GOLD = 20
"""Gold labels from which a probe is tried."""
LEAST_FAIR = 10
"""Gold labels not chosen for their doubt from which they, too, must speak for the probe."""
FOLDS = 5
COMPONENTS = 64
"""Principal components of the vectors that the probe sees; more were no better, fewer are quicker."""
PRIOR_SCALE = 10.0
"""How many times the zero-shot log-odds outweigh a vector's length: large is nearly free of the penalty."""
INVERSE_PENALTIES = (0.003, 0.03, 0.3, 3.0, 30.0)
MARGIN = 1.0
"""Standard errors by which the probe's log-loss and accuracy must beat zero-shot's, image by image."""
LEAST_GAIN = 0.01
"""Nats by which its log-loss must be lower, however sure that is."""
THREADS = 1
"""Of BLAS. Matrices of a few thousand rows gain nothing from more, and on cores that others use, threads that wait for
each other make a fit of 0.3 seconds take ten."""
SURE = 1e-4
"""Probabilities stay this far from 0 and 1: a hundred labels cannot show more."""


@dataclass(frozen=True)
class Comparison:
    """Zero-shot labels against the probe's, on gold labels that the probe was not fitted to."""

    used: bool
    """Whether the probe's probabilities replace the zero-shot ones."""
    says: str
    """The same in a sentence, with the figures."""
    gold: int
    """Gold labels outside the test split: what the probe may learn from."""
    accuracy: tuple[float, float] | None = None
    """Zero-shot's and the probe's, in [0, 1]."""
    log_loss: tuple[float, float] | None = None
    """Zero-shot's and the probe's, in nats."""
    margin: float | None = None
    """The mean gain in log-loss had to be above this."""
    penalty: float | None = None
    """The inverse penalty C that cross-validation chose."""

    def described(self) -> dict[str, Any]:
        """For the metadata of labels.parquet."""
        return asdict(self)


def improve(
    vectors: np.ndarray,
    logits: np.ndarray,
    gold: np.ndarray,
    groups: np.ndarray,
    splits: np.ndarray,
    fair: np.ndarray,
) -> tuple[np.ndarray, Comparison]:
    """Probabilities of yes from people's labels, where cross-validation shows them better than zero-shot ones.

    Gold labels of the test split are never learned from: the gate measures on them. An image that is learned from gets
    its probability from a probe that was fitted without it and without its near-duplicates.

    Args:
        vectors: float32 `(N, D)`, the teacher's.
        logits: `(N,)`, the zero-shot log-odds of yes.
        gold: `(N,)`: 1 yes, 0 no, NaN where no person has said.
        groups: `(N,)` near-duplicate groups.
        splits: `(N,)` of train, val, test.
        fair: `(N,)`, false where a gold label was asked for because it was doubtful. On such images zero-shot is at its
            worst; when there are `LEAST_FAIR` others, the probe must not be worse on them by more than chance.

    Returns:
        float64 `(N,)` in [0, 1], and the comparison.
    """
    zero_shot = sigmoid(logits)
    rows = np.flatnonzero(~np.isnan(gold) & (splits != "test"))
    answers = gold[rows].astype(int)
    folds = _folds(answers, groups[rows])
    if not folds:
        says = f"Zero-shot: a probe needs {LEAST_GOLD} labels from people, two of each answer; there are {len(rows)}."
        return zero_shot, Comparison(False, says, len(rows))
    seen = features(vectors, logits)
    with threadpool_limits(THREADS):
        held_out, penalty = _held_out(seen[rows], answers, folds)
        found = _compare(answers, zero_shot[rows], held_out, fair[rows], penalty)
        if not found.used:
            return zero_shot, found
        p = _fitted(seen[rows], answers, penalty).predict_proba(seen)[:, 1].clip(SURE, 1 - SURE)
    p[rows] = held_out
    return p, found


def features(vectors: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """What the probe sees: float64 `(N, K + 1)`, principal components of mean square 1, and the zero-shot log-odds.

    Center, directions and scale come from all photos, labeled or not.
    """
    centered = vectors - vectors.mean(axis=0, dtype=np.float64)
    with threadpool_limits(THREADS):
        values, directions = np.linalg.eigh(centered.T @ centered)
        components = centered @ directions[:, np.argsort(-values)[:COMPONENTS]]
    components /= np.sqrt((components**2).sum(axis=1).mean()) or 1.0
    prior = (logits - logits.mean()) / (logits.std() or 1.0)
    return np.hstack([components, PRIOR_SCALE * prior[:, None]])


def log_odds(scores: np.ndarray, positives: int) -> np.ndarray:
    """Zero-shot log-odds of yes, float64 `(N,)`, from the softmax over phrases `(N, P)`, positives first."""
    sides = scores.astype(np.float64)
    yes, no = sides[:, :positives].sum(axis=1), sides[:, positives:].sum(axis=1)
    return np.asarray(np.log(np.maximum(yes, 1e-30)) - np.log(np.maximum(no, 1e-30)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of log-odds, float64."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500).astype(np.float64))))


def entropy(p: np.ndarray) -> np.ndarray:
    """Doubt of probabilities of yes, in bits: 0 sure, 1 wholly undecided."""
    p = np.clip(p.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def log_loss(answers: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Cost of each probability of yes in nats, given what was right (1 or 0)."""
    p = np.clip(p, SURE, 1 - SURE)
    return np.asarray(-np.log(np.where(answers == 1, p, 1 - p)))


def _folds(answers: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, held out) rows, near-duplicates together; none when the labels are too few to be cut so."""
    rarest = min(len(set(groups[answers == side])) for side in (0, 1))
    if len(answers) < LEAST_GOLD or rarest < 2:
        return []
    cut = StratifiedGroupKFold(min(FOLDS, rarest), shuffle=True, random_state=0)
    folds = list(cut.split(np.zeros(len(answers)), answers, groups))
    return folds if all(len(set(answers[train])) == 2 for train, _ in folds) else []


def _held_out(
    seen: np.ndarray, answers: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, float]:
    """Out-of-fold probabilities, and the inverse penalty of least held-out log-loss.

    The penalty behind a fold's probabilities is chosen by the other folds, so that it, too, is not fitted to them.
    """
    p = np.empty((len(answers), len(INVERSE_PENALTIES)))
    for train, held in folds:
        for i, penalty in enumerate(INVERSE_PENALTIES):
            p[held, i] = _fitted(seen[train], answers[train], penalty).predict_proba(seen[held])[:, 1]
    losses = log_loss(answers[:, None], p)
    chosen = np.empty(len(answers))
    for train, held in folds:
        chosen[held] = p[held, losses[train].sum(axis=0).argmin()]
    return chosen.clip(SURE, 1 - SURE), INVERSE_PENALTIES[int(losses.sum(axis=0).argmin())]


def _fitted(seen: np.ndarray, answers: np.ndarray, penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty, solver="newton-cholesky", max_iter=100).fit(seen, answers)


def _compare(
    answers: np.ndarray, zero_shot: np.ndarray, probe: np.ndarray, fair: np.ndarray, penalty: float
) -> Comparison:
    gain = log_loss(answers, zero_shot) - log_loss(answers, probe)
    margin = max(LEAST_GAIN, _standard_error(gain))
    right = [(p >= 0.5) == (answers == 1) for p in (zero_shot, probe)]
    hits = right[1].astype(float) - right[0]
    better = gain.mean() > margin and hits.mean() > _standard_error(hits)
    kept = fair.sum() < LEAST_FAIR or gain[fair].mean() > -_standard_error(gain[fair])
    used = bool(better and kept)
    before, after = (float(answer.mean()) for answer in right)
    verdict = "A linear probe replaces the zero-shot labels" if used else "Zero-shot labels stay"
    why = "" if used else " (not better by more than chance)" if kept else " (worse where photos were not picked)"
    says = (
        f"{verdict}{why}: on {len(answers)} labels from people that it was not fitted to, the probe is right on "
        f"{after:.1%}, zero-shot on {before:.1%}."
    )
    losses = (float(log_loss(answers, zero_shot).mean()), float(log_loss(answers, probe).mean()))
    return Comparison(used, says, len(answers), (before, after), losses, margin, penalty)


def _standard_error(gain: np.ndarray) -> float:
    return MARGIN * float(gain.std(ddof=1)) / float(np.sqrt(len(gain)))
