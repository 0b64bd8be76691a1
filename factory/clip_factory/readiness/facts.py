"""The figures of readiness, from the table of labels alone: no photo, no vector, no person is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_factory.labels import Labels, hard_labels
from clip_factory.statistics import Z95, Share, share

MIN_OF_EACH = 3
"""Fewest yes and fewest no that can fill train, val and test."""
SURE = 0.9
"""The teacher is sure of an answer from this probability on."""
MIN_PEOPLE = 10
"""Labels from people, not asked for because of doubt, from which the teacher is compared with them."""


@dataclass(frozen=True)
class People:
    """The teacher's ranking against people's labels."""

    n: int
    """Labels that were not asked for because of the teacher's doubt."""
    auc: float
    """How often it ranks a yes above a no, in [0, 1]."""
    interval: tuple[float, float]
    """95 % interval of `auc`."""


@dataclass(frozen=True)
class Facts:
    """What the table of labels shows."""

    photos: int
    yes: int
    """Photos labeled yes: by a person, else for as many of the likeliest as the probabilities expect."""
    above: int
    """Photos whose probability is 0.5 or more."""
    sure: Share
    """Photos whose probability is at most 0.1 or at least 0.9."""
    expected: float
    """Mean probability: the share of yes that the teacher expects, in [0, 1]."""
    separation: float
    """In [0.5, 1]; NaN where a probability of exactly 0 or 1 leaves one side empty."""
    clarity: float
    """In [0, 1]."""
    middle: tuple[float, float]
    """Between these probabilities lie 80 % of the photos."""
    extremes: tuple[float, float]
    """Lowest and highest probability."""
    tenths: tuple[int, ...]
    """Photos by tenth of the probability, from 0 up."""
    gold: int
    """Photos that a person has labeled."""
    gold_weight: float
    """Their share of the weight in training, in [0, 1]."""
    people: People | None
    """None with fewer than `MIN_PEOPLE` labels, or only one answer among them."""
    by_phrases: bool = True
    """Whether the photos were compared with phrases, which can be said otherwise; else they were asked about."""

    @property
    def no(self) -> int:
        """Photos labeled no."""
        return self.photos - self.yes

    @property
    def rarer(self) -> str:
        """The answer that the teacher expects less of."""
        return "yes" if self.expected < 0.5 else "no"


def measure(labels: Labels) -> Facts:
    """The figures of the labels of a run."""
    p, weight = labels.p_teacher.astype(np.float64), labels.weight.astype(np.float64)
    gold, people, unbiased = labels.gold, labels.labeled, labels.unbiased
    low, high = np.quantile(p, (0.1, 0.9))
    return Facts(
        photos=len(p),
        yes=int(hard_labels(p, gold).sum()),
        above=int((p >= 0.5).sum()),
        sure=share(np.maximum(p, 1 - p) >= SURE),
        expected=float(p.mean()),
        separation=separation(p),
        clarity=min(_expected_f1(p, p >= 0.5), _expected_f1(1 - p, p < 0.5)),
        middle=(float(low), float(high)),
        extremes=(float(p.min()), float(p.max())),
        tenths=tuple(int(n) for n in np.histogram(p, 10, (0, 1))[0]),
        gold=int(people.sum()),
        gold_weight=float(weight[people].sum() / weight.sum()),
        people=_against_people(p[unbiased], gold[unbiased] == 1),
        by_phrases=labels.by_phrases,
    )


def separation(p: np.ndarray) -> float:
    """The area under the ROC curve that probabilities of yes `(N,)` would have if they were right.

    The chance that of two photos, one a yes and one a no, drawn as the probabilities say, the likelier one is the yes;
    ties count half.

    Returns:
        In [0.5, 1]: 0.5 when all are equal. NaN when they leave one of the sides empty.
    """
    values, where = np.unique(p, return_inverse=True)
    yes = np.bincount(where, weights=p)
    no = np.bincount(where, weights=1 - p)
    pairs = yes.sum() * no.sum() - float((p * (1 - p)).sum())  # a photo is not compared with itself
    ranked = float((yes * (np.cumsum(no) - no)).sum() + ((yes * no).sum() - (p * (1 - p)).sum()) / 2)
    return max(0.5, ranked / pairs) if pairs > 0 and len(values) else float("nan")


def auc_interval(auc: float, yes: int, no: int) -> tuple[float, float]:
    """95 % score interval of an area under the ROC curve (Newcombe 2006, Stat. Med. 25:559, method 5).

    The areas from which `auc` is no further off than 1.96 of the standard errors that they would have themselves
    (variance: Hanley and McNeil 1982, symmetric in the sides). Unlike a normal interval it is not empty at 1.
    """
    grid = np.linspace(0, 1, 10_001)
    spread = 1 + ((yes + no) / 2 - 1) * ((1 - grid) / (2 - grid) + grid / (1 + grid))
    near = grid[(auc - grid) ** 2 <= Z95**2 * grid * (1 - grid) * spread / (yes * no) + 1e-12]
    return float(near[0]), float(near[-1])


def _expected_f1(p: np.ndarray, answers: np.ndarray) -> float:
    """F1 of `answers` (true for the side in question) if a photo is on it with probability `p`; 0 where none is."""
    total = float(p.sum()) + int(answers.sum())
    return 2 * float(p[answers].sum()) / total if total else 0.0


def _against_people(p: np.ndarray, yes: np.ndarray) -> People | None:
    if len(p) < MIN_PEOPLE or yes.all() or not yes.any():
        return None
    above = p[yes][:, None] - p[~yes]
    auc = float((above > 0).mean() + (above == 0).mean() / 2)
    return People(len(p), auc, auc_interval(auc, int(yes.sum()), int((~yes).sum())))
