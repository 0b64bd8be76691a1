"""Several classes at once: how likely each photo of a folder shows each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clip_factory.encoders import Encoder
from clip_factory.label_sources.gaussian_classes import fit, principal_components, sampled, softmax
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.transduction import MIN_PHOTOS, SHARPNESS
from clip_factory.zeroshot.classes import ClassPrompts, background

OTHER = "other"
"""The class of photos that show none of the named ones."""
UNSURE = "unsure"
"""What photos are called whose likeliest class lies below the threshold."""


@dataclass(frozen=True, eq=False)
class Classification:
    """N photos against C classes."""

    names: tuple[str, ...]
    probabilities: np.ndarray
    """float64 `(N, C)` in [0, 1]; rows sum to 1, unless there is one class alone, or `OTHER` was left out."""
    threshold: float = 0.0
    says: str = ""
    """What was done beside the softmax, in a sentence; empty for nothing."""

    @property
    def answers(self) -> np.ndarray:
        """The likeliest class of each photo, int `(N,)`; -1 below the threshold."""
        best = self.probabilities.argmax(axis=1)
        sure = self.probabilities[np.arange(len(best)), best] >= self.threshold
        return np.where(sure, best, -1)

    @property
    def words(self) -> list[str]:
        """The answers as names; `UNSURE` below the threshold."""
        return [self.names[answer] if answer >= 0 else UNSURE for answer in self.answers.tolist()]

    def top(self, count: int) -> np.ndarray:
        """The likeliest classes of each photo, the likeliest first: int `(N, count)`."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]


def classify(
    vectors: np.ndarray,
    classes: ClassPrompts,
    encoder: Encoder,
    templates: Sequence[str],
    *,
    other: bool = False,
    refine: bool = False,
    threshold: float = 0.0,
) -> Classification:
    """How likely each photo shows each class.

    Of several classes the softmax of the scaled cosine similarities (Radford et al. 2021, arXiv:2103.00020). Of one
    alone the probability that it is there at all: the encoder's own sigmoid where it was trained with one (SigLIP,
    Zhai et al. 2023, arXiv:2303.15343), else its share against everyday things (`scenario.prompts.BACKGROUND`).

    Args:
        vectors: float32 `(N, D)`, L2-normalized.
        classes: C classes.
        encoder: What made the vectors.
        templates: Those of the classes; everyday things are put into the same.
        other: Add the class `OTHER`, everyday things that no class names.
        refine: Let the folder's own groups correct the words.
        threshold: Least probability of an answer.
    """
    texts = classes.vectors(encoder)
    alone = len(classes.names) == 1
    if alone and encoder.logit_bias:
        p = sigmoid(encoder.logit_scale * (vectors @ texts[0]) + encoder.logit_bias)
        return Classification(classes.names, p[:, None], threshold, "The encoder's own sigmoid: no other words count.")
    if not (alone or other):
        logits = encoder.logit_scale * (vectors @ texts.T).astype(np.float64)
        result = Classification(classes.names, softmax(logits), threshold)
        return refined(result, vectors, logits, encoder.logit_scale * texts) if refine else result
    things = encoder.embed_texts(background(classes, templates))
    logits = encoder.logit_scale * (vectors @ np.concatenate([texts, things]).T).astype(np.float64)
    p = softmax(logits)
    shares = np.concatenate([p[:, : len(texts)], p[:, len(texts) :].sum(axis=1, keepdims=True)], axis=1)
    names = (*classes.names, OTHER)
    if alone and not other:
        return Classification(classes.names, shares[:, :1], threshold, "Against everyday things.")
    result = Classification(names, shares, threshold)
    return refined(result, vectors, np.log(shares + 1e-30)) if refine else result


def refined(
    words: Classification, vectors: np.ndarray, logits: np.ndarray, scaled_texts: np.ndarray | None = None
) -> Classification:
    """The classes found as groups of the folder's own photos, named by the words.

    What is common to all photos of the folder says nothing about their classes, and is taken off first where texts are
    given: similarities are those to the mean photo subtracted from. Then Gaussian classes of one covariance are found
    (`label_sources.gaussian_classes`). It assumes that the folder holds photos of most of the classes.

    Args:
        words: What the words alone say.
        vectors: float32 `(N, D)`.
        logits: float64 `(N, C)`, of the words.
        scaled_texts: float32 `(C, D)`: the classes' vectors times the encoder's scale.
    """
    if len(vectors) < MIN_PHOTOS:
        return replace(words, says=f"Not refined: groups are sought from {MIN_PHOTOS} photos on.")
    centered = logits if scaled_texts is None else logits - scaled_texts @ vectors.mean(axis=0)
    prior = np.log(softmax(centered) + 1e-30)
    points = principal_components(vectors)
    rows = sampled(len(points))
    raw = prior + fit(points[rows], prior[rows]).log_likelihoods(points)
    raw -= raw.mean(axis=1, keepdims=True)
    spread = float(np.std(logits - logits.mean(axis=1, keepdims=True)))
    p = softmax(raw * min(1.0, SHARPNESS * spread / (float(raw.std()) or 1.0)))
    moved = int((p.argmax(axis=1) != words.probabilities.argmax(axis=1)).sum())
    says = f"The folder's own groups gave {moved:,} of {len(p):,} photos another class."
    return replace(words, probabilities=p, says=says)
