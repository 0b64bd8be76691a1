"""Transduction: the folder's own structure decides what the words leave open.

The photos of a folder fall into groups, and the words need only name them. Two Gaussian classes, yes and no, are found
from the words' probabilities (`gaussian_classes`); a photo that the words misjudge is then labeled by the group that it
lies in. Where nothing in the folder is a yes, the words' few mistakes would draw some other group in. So the outcome is
believed only where guards hold, and never calls more than `MAX_GROWTH` times as many photos yes as the words expect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from clip_factory.label_sources.gaussian_classes import GaussianClasses, fit, principal_components, sampled
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.refinement import PseudoLabels, Refined

MIN_PHOTOS = 100
"""Photos from which groups can be told from chance."""
MAX_GROWTH = 1.5
"""Times the share of yes that the words expect that may become yes."""
MIN_STABILITY = 0.55
"""Of the photos that models of two halves of the folder call yes, the share on which both must agree (Jaccard)."""
MIN_AGREEMENT = 0.5
"""Of the photos that the words are surest of, the share that must stay yes."""
MIN_RANKED = 0.85
"""Of as many photos as are called yes, the likeliest by the words, the share that must be among them ..."""
SURE, MAX_SURE = 0.9, 0.05
"""... where the words give this probability to more photos than this share of them: they know what they see."""
MAX_CERTAIN, MAX_CERTAIN_YES, MIN_CORRECTION = 0.9, 0.3, 1.2
"""Words that are sure of this share of all photos, and of this share of their yes, need no more yes by this factor."""
SHARPNESS = 1.5
"""Times as spread as the words' own log-odds that the new ones may be: the Gaussians by themselves are far too sure."""
HALVINGS = 2
"""Times that the folder is cut into two halves at random."""


@dataclass(frozen=True)
class Guards:
    """What the guards saw; shares lie in [0, 1]."""

    growth: float
    """Yes that the new probabilities expect, over yes that the words expect, before the bound `MAX_GROWTH`."""
    stability: float
    agreement: float
    ranked: float
    sure: float
    """Photos of which the words are sure, for each photo called yes."""
    certain: float
    """Share of the photos of which the words are sure."""
    certain_yes: float
    """Share of their yes photos of which the words are sure."""
    two_groups: float
    """Nats a photo by which two groups describe the held-out half better than one."""

    @property
    def refusal(self) -> str | None:
        """Why the outcome is not believed, in words; None where it is."""
        return self.refusal_of("words")

    def refusal_of(self, labels: str) -> str | None:
        """The same of labels that are not by words, and are called so in the sentence, such as `answers`."""
        if not self.two_groups > 0:
            return "the photos do not fall into two groups"
        if self.stability < MIN_STABILITY:
            return f"two halves of the folder agree on {self.stability:.0%} of the yes photos only"
        if self.agreement < MIN_AGREEMENT:
            return f"of the photos that the {labels} are surest of, {self.agreement:.0%} would stay yes"
        if self.ranked < MIN_RANKED and self.sure > MAX_SURE:
            return f"the {labels} are sure of some photos and rank {self.ranked:.0%} of the new yes photos first"
        certain = self.certain >= MAX_CERTAIN and self.certain_yes >= MAX_CERTAIN_YES
        if certain and self.growth > MIN_CORRECTION:
            return f"the {labels} are sure of {self.certain:.0%} of the photos, and yes would still grow"
        return None


class Transduction:
    """A `Refinement` that asks no person. What people say of single photos it leaves to others."""

    def __init__(self, *, guarded: bool = True) -> None:
        """`guarded`: whether the words' labels stay where a guard does not hold."""
        self.guarded = guarded

    def refine(self, labels: PseudoLabels) -> Refined:
        """Label the photos by the group that they lie in, where the guards hold.

        Returns:
            Probabilities, or the source's own. `figures`: those of `Guards`; `moved`, how many photos have another
            answer at 0.5; `yes`, photos at 0.5 or more before and after. Empty with fewer than `MIN_PHOTOS` photos.
        """
        name = labels.source.capitalize()
        if len(labels.p) < MIN_PHOTOS:
            return Refined(labels.p, False, f"{name} labels stay: groups are sought from {MIN_PHOTOS} photos on.")
        return self.decide(labels, transduce(labels))

    def decide(self, labels: PseudoLabels, outcome: Transduced) -> Refined:
        """What becomes of the labels, given what transduction makes of them."""
        refusal = outcome.guards.refusal_of(labels.noun) if self.guarded else None
        p = labels.p if refusal else outcome.p
        before, after = labels.p >= 0.5, p >= 0.5
        yes, moved = [int(before.sum()), int(after.sum())], int((before != after).sum())
        figures = {**asdict(outcome.guards), "yes": yes, "moved": moved}
        if refusal:
            return Refined(p, False, f"{labels.source.capitalize()} labels stay: {refusal}.", figures)
        return Refined(p, True, _sentence(labels, yes, moved, outcome.guards), figures)


@dataclass(frozen=True, eq=False)
class Transduced:
    """What transduction makes of pseudo-labels, whether it is to be believed or not."""

    log_odds: np.ndarray
    """float64 `(N,)`, of yes."""
    guards: Guards

    @property
    def p(self) -> np.ndarray:
        """Probability of yes, float64 `(N,)` in [0, 1]."""
        return sigmoid(self.log_odds)


def transduce(labels: PseudoLabels) -> Transduced:
    """Find the two groups of at least two photos, and what the guards see."""
    points = principal_components(labels.vectors)
    rows = sampled(len(points))
    seen, words = points[rows], labels.log_odds[rows]
    whole = _log_ratio(_fitted(seen, words))
    raw = whole(points) + labels.log_odds
    guards = _guards(seen, words, raw[rows], labels.p[rows])
    log_odds = _bounded(_as_sure_as(raw, labels.log_odds), MAX_GROWTH * float(labels.p.mean()))
    return Transduced(log_odds, guards)


def _fitted(points: np.ndarray, log_odds: np.ndarray) -> GaussianClasses:
    return fit(points, np.stack([-np.logaddexp(0, log_odds), -np.logaddexp(0, -log_odds)], axis=1))


def _log_ratio(classes: GaussianClasses) -> Callable[[np.ndarray], np.ndarray]:
    """How much likelier a point is as a yes than as a no, in nats."""
    weights, bias = classes.weights[:, 1] - classes.weights[:, 0], classes.biases[1] - classes.biases[0]
    return lambda points: np.asarray(points @ weights + bias)


def _guards(points: np.ndarray, words: np.ndarray, raw: np.ndarray, p: np.ndarray) -> Guards:
    yes = raw >= 0
    order = np.argsort(-words, kind="stable")
    surest = order[: max(5, round(p.sum() / 2))]
    stability, two_groups = np.mean([_halved(points, words, seed) for seed in range(HALVINGS)], axis=0)
    return Guards(
        growth=float(sigmoid(raw).mean() / max(p.mean(), 1e-9)),
        stability=float(stability),
        agreement=float(yes[surest].mean()),
        ranked=float(yes[order[: yes.sum()]].mean()) if yes.any() else 0.0,
        sure=float((p >= SURE).sum() / max(yes.sum(), 1)),
        certain=float((np.maximum(p, 1 - p) >= SURE).mean()),
        certain_yes=float((p >= SURE).sum() / max((p >= 0.5).sum(), 1)),
        two_groups=float(two_groups),
    )


def _halved(points: np.ndarray, words: np.ndarray, seed: int) -> tuple[float, float]:
    """How far models of two random halves agree on yes, and by how much two groups fit the other half better."""
    order = np.random.default_rng(seed).permutation(len(points))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    ratios = [_log_ratio(_fitted(points[half], words[half])) for half in halves]
    one, other = (ratio(points) + words >= 0 for ratio in ratios)
    either = int((one | other).sum())
    # along the direction that one half gives, on photos of the other half: its own would lie too far apart
    along, rest = ratios[0](points), np.array_split(halves[1], 2)
    gain = _two_groups(along[rest[0]], sigmoid(along[rest[0]] + words[rest[0]]), along[rest[1]])
    return (int((one & other).sum()) / either if either else 0.0), gain


def _two_groups(fitted: np.ndarray, yes: np.ndarray, held_out: np.ndarray) -> float:
    """Mean log-likelihood of held-out values under two normals of one variance, less that under one normal.

    Args:
        fitted: `(N,)` values along the direction that parts yes from no.
        yes: `(N,)` in [0, 1]: how much each of them is a yes.
        held_out: `(M,)` values of other photos.
    """
    sides = np.stack([1 - yes, yes])
    sizes = sides.sum(axis=1) + 1e-9
    means = sides @ fitted / sizes
    spread = np.sqrt((sides * (fitted - means[:, None]) ** 2).sum() / len(fitted)) + 1e-9
    two = np.logaddexp(*(np.log(sizes / len(fitted))[:, None] + _log_normal(held_out, means[:, None], spread)))
    return float((two - _log_normal(held_out, fitted.mean(), fitted.std() + 1e-9)).mean())


def _log_normal(values: np.ndarray, mean: np.ndarray | float, spread: float) -> np.ndarray:
    return np.asarray(-0.5 * ((values - mean) / spread) ** 2 - np.log(spread))


def _as_sure_as(raw: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Log-odds on the scale of the words' own: their answers stay, what they claim shrinks."""
    return np.asarray(raw * min(1.0, SHARPNESS * float(words.std()) / (float(raw.std()) or 1.0)))


def _bounded(log_odds: np.ndarray, most: float) -> np.ndarray:
    """The same log-odds, lowered alike until their mean probability is at most `most`."""
    if sigmoid(log_odds).mean() <= most:
        return log_odds
    low, high = -100.0 - float(log_odds.max()), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(log_odds + middle).mean() < most else (low, middle)
    return np.asarray(log_odds + low)


def _sentence(labels: PseudoLabels, yes: list[int], moved: int, guards: Guards) -> str:
    bound = f", held to {MAX_GROWTH:g} times the yes that they expect" if guards.growth > MAX_GROWTH else ""
    return (
        f"The folder's own groups correct the {labels.source} labels{bound}: {moved:,} of {len(labels.p):,} photos "
        f"have another answer, yes are {yes[1]:,} where they were {yes[0]:,}. Two halves of the folder agree on "
        f"{guards.stability:.0%} of the yes photos."
    )
