"""A linear probe on the encoder's vectors: what people's labels add to what the phrases say.

Logistic regression on the stored image vectors, with the zero-shot log-odds as one more feature that is all but
unpenalized. So the text vectors are the prior: with strong regularization the probe is the zero-shot answer, rescaled
and shifted; the labels then buy departures from it, as far as cross-validation shows them to pay. (Linear
probes on CLIP: Radford et al. 2021, arXiv:2103.00020; text vectors as the start of a few-shot probe: Huang et al.
2024, "LP++", arXiv:2404.02285, and Silva-Rodriguez et al. 2024, "CLAP", arXiv:2312.12730.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from clip_factory.label_sources.probabilities import MIN_P, log_loss
from clip_factory.label_sources.refinement import PseudoLabels, Refined

MIN_GOLD = 20
"""Gold labels from which a probe is tried."""
MIN_UNBIASED = 10
"""Gold labels of photos not picked for their doubt from which the probe must hold on these, too."""
FOLDS = 5
COMPONENTS = 64
"""Principal components of the vectors that the probe sees; more were no better, fewer are quicker."""
PRIOR_SCALE = 10.0
"""How many times the zero-shot log-odds outweigh a vector's length: large is nearly free of the penalty."""
INVERSE_PENALTIES = (0.003, 0.03, 0.3, 3.0, 30.0)
MARGIN = 1.0
"""Standard errors by which the probe's log-loss and accuracy must beat zero-shot's, image by image."""
MIN_GAIN = 0.01
"""Nats by which its log-loss must be lower, however sure that is."""
ROUNDING = 1e-9
"""Share by which two sums of the same numbers may differ."""
THREADS = 1
"""Of BLAS. Matrices of a few thousand rows gain nothing from more, and on cores that others use, threads that wait for
each other make a fit of 0.3 seconds take ten."""

Verdict = Literal["used", "not better by more than chance", "worse where photos were not picked"]


class Probe:
    """A `Refinement`: probabilities from people's labels, where cross-validation shows them better than the others."""

    def refine(self, labels: PseudoLabels) -> Refined:
        """Fit the probe to people's labels outside the test split, and compare it with the source on the same labels.

        Gold labels of the test split are never learned from. An image that is learned from gets its probability from a
        probe that was fitted without it and without its near-duplicates. Where there are `MIN_UNBIASED` gold labels
        of photos that were not picked for their doubt, on which the source is at its worst, the probe must not be
        worse on them by more than chance.

        Returns:
            Probabilities in [MIN_P, 1 - MIN_P], or the source's own. `figures`: `gold`, the labels that it may learn
            from; `accuracy` and `log_loss` (nats), each the source's and the probe's; `margin`, which the gain in
            log-loss had to exceed; `penalty`, the inverse penalty C. The last four are None with too few labels.
        """
        fitted = fit_probe(labels)
        if fitted is None:
            return too_few(labels)
        verdict, compared = compare(labels, labels.p, fitted.p, fitted.penalty)
        sentence, figures = compared.sentence(verdict, labels.source), asdict(compared)
        used = verdict == "used"
        return Refined(fitted.p if used else labels.p, used, sentence, figures)


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe that was fitted to people's labels outside the test split."""

    p: np.ndarray
    """float64 `(N,)` in [MIN_P, 1 - MIN_P]; of a photo that was learned from, by a probe fitted without it."""
    penalty: float
    """The inverse penalty C."""


def fit_probe(labels: PseudoLabels) -> FittedProbe | None:
    """The probe on these vectors and log-odds; None with too few labels to fit and compare it."""
    rows = learnable(labels)
    answers = labels.gold[rows].astype(int)
    folds = _folds(answers, labels.groups[rows])
    if not folds:
        return None
    inputs = features(labels.vectors, labels.log_odds)
    with threadpool_limits(THREADS):
        held_out, penalty = _held_out(inputs[rows], answers, folds)
        p = _fitted(inputs[rows], answers, penalty).predict_proba(inputs)[:, 1].clip(MIN_P, 1 - MIN_P)
    p[rows] = held_out
    return FittedProbe(p, penalty)


def learnable(labels: PseudoLabels) -> np.ndarray:
    """Rows of the photos whose labels from people may be learned from: those outside the test split."""
    return np.flatnonzero(~np.isnan(labels.gold) & (labels.splits != "test"))


@dataclass(frozen=True)
class Comparison:
    """The source's labels against the probe's, on gold labels that the probe was not fitted to."""

    gold: int
    """Gold labels outside the test split: what the probe may learn from."""
    accuracy: tuple[float, float]
    """The source's and the probe's, in [0, 1]."""
    log_loss: tuple[float, float]
    """The source's and the probe's, in nats."""
    margin: float
    """The mean gain in log-loss had to be above this."""
    penalty: float | None
    """The inverse penalty C that cross-validation chose; None where no probe is compared."""

    def sentence(self, verdict: Verdict, source: str) -> str:
        """The comparison in words; `source` names the label source."""
        before, after = self.accuracy
        start = f"{source.capitalize()} labels stay ({verdict})"
        if verdict == "used":
            start = f"A linear probe replaces the {source} labels"
        return (
            f"{start}: on {self.gold} labels from people that it was not fitted to, the probe is right on "
            f"{after:.1%}, {source} on {before:.1%}."
        )


def too_few(labels: PseudoLabels) -> Refined:
    """The source's own probabilities, since people's labels are too few to learn from."""
    gold = len(learnable(labels))
    needs = f"a probe needs {MIN_GOLD} labels from people, two of each answer; there are {gold}"
    figures = {field.name: None for field in fields(Comparison)} | {"gold": gold}
    return Refined(labels.p, False, f"{labels.source.capitalize()}: {needs}.", figures)


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


def _folds(answers: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, held out) rows, near-duplicates together; none when the labels are too few for that."""
    rarest = min(len(set(groups[answers == side])) for side in (0, 1))
    if len(answers) < MIN_GOLD or rarest < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, rarest), shuffle=True, random_state=0)
    folds = list(splitter.split(np.zeros(len(answers)), answers, groups))
    return folds if all(len(set(answers[train])) == 2 for train, _ in folds) else []


def _held_out(
    inputs: np.ndarray, answers: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, float]:
    """Out-of-fold probabilities, and the inverse penalty of least held-out log-loss.

    The penalty behind a fold's probabilities is chosen by the other folds, so that it, too, is not fitted to them.
    """
    p = np.empty((len(answers), len(INVERSE_PENALTIES)))
    for train, held in folds:
        for i, penalty in enumerate(INVERSE_PENALTIES):
            p[held, i] = _fitted(inputs[train], answers[train], penalty).predict_proba(inputs[held])[:, 1]
    losses = log_loss(answers[:, None], p)
    chosen = np.empty(len(answers))
    for train, held in folds:
        chosen[held] = p[held, losses[train].sum(axis=0).argmin()]
    return chosen.clip(MIN_P, 1 - MIN_P), INVERSE_PENALTIES[int(losses.sum(axis=0).argmin())]


def _fitted(inputs: np.ndarray, answers: np.ndarray, penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty, solver="newton-cholesky").fit(inputs, answers)


def compare(
    labels: PseudoLabels, current: np.ndarray, other: np.ndarray, penalty: float | None = None
) -> tuple[Verdict, Comparison]:
    """Whether other probabilities are better than the current ones, by people's labels outside the test split.

    Args:
        labels: What is known of N photos.
        current: float64 `(N,)`; that of a labeled photo was not fitted to its label.
        other: Likewise.
        penalty: The inverse penalty, where `other` comes from a probe.
    """
    rows = learnable(labels)
    return _compare(labels.gold[rows].astype(int), current[rows], other[rows], labels.unbiased[rows], penalty)


def _compare(
    answers: np.ndarray, source: np.ndarray, probe: np.ndarray, unbiased: np.ndarray, penalty: float | None
) -> tuple[Verdict, Comparison]:
    gain = log_loss(answers, source) - log_loss(answers, probe)
    margin = max(MIN_GAIN, _standard_error(gain))
    right = [(p >= 0.5) == (answers == 1) for p in (source, probe)]
    hits = right[1].astype(float) - right[0]
    # one photo more is exactly one standard error, give or take a rounding
    better = gain.mean() > margin and hits.mean() > _standard_error(hits) * (1 + ROUNDING)
    holds = unbiased.sum() < MIN_UNBIASED or gain[unbiased].mean() >= -_standard_error(gain[unbiased])
    verdict: Verdict = "used" if better else "not better by more than chance"
    if not holds:
        verdict = "worse where photos were not picked"
    accuracy = float(right[0].mean()), float(right[1].mean())
    losses = float(log_loss(answers, source).mean()), float(log_loss(answers, probe).mean())
    return verdict, Comparison(len(answers), accuracy, losses, margin, penalty)


def _standard_error(gain: np.ndarray) -> float:
    return MARGIN * float(gain.std(ddof=1)) / float(np.sqrt(len(gain)))
