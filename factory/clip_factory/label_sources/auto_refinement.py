"""`labels.refine: auto`: guards decide where no person has answered, people's labels where there are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from clip_factory.label_sources.probabilities import logit, sigmoid
from clip_factory.label_sources.probe import Comparison, compare, fit_probe, learnable, too_few
from clip_factory.label_sources.refinement import PseudoLabels, Refined
from clip_factory.label_sources.transduction import MIN_PHOTOS, Transduced, Transduction, transduce

WORDS, GROUPS, PROBE, BOTH = "words", "transduction", "probe", "transduction and probe"
PRIOR_ANSWERS = 30
"""Answers that the folder's own groups count for."""
_SAYS = {
    WORDS: "{source} labels stay",
    GROUPS: "The folder's own groups correct the {source} labels",
    PROBE: "A linear probe replaces the {source} labels",
    BOTH: "A linear probe on the folder's own groups replaces the {source} labels",
}

Candidates = Mapping[str, tuple[np.ndarray, float | None]]
"""Probabilities of each candidate, not fitted to the label of the photo itself, and the inverse penalty of a probe."""


class AutoRefinement:
    """A `Refinement` that chooses among the words, transduction, a probe, and a probe on what transduction makes.

    Without labels from people, or with too few for a probe, transduction is used where its guards hold. With enough,
    what the guards allow is where it starts; another candidate replaces it where people's labels that it was not
    fitted to show it better by more than chance, and of several the one with the least log-loss.
    """

    def __init__(self) -> None:
        self._last: tuple[PseudoLabels, Transduced] | None = None

    def refine(self, labels: PseudoLabels) -> Refined:
        """The probabilities of the chosen candidate.

        Returns:
            `figures`: those of `Guards`, `yes` and `moved`; with enough labels from people also `gold`, `accuracy`,
            `log_loss`, `margin` and `penalty` as `Probe` gives them, comparing the words with the best candidate;
            `chosen`; and `candidates`: accuracy and log-loss of each by people's labels.
        """
        outcome = self.transduced(labels)
        start = Transduction().decide(labels, outcome) if outcome else Transduction().refine(labels)
        candidates = _candidates(labels, outcome)
        if PROBE not in candidates:
            return _without_people(start, labels)
        begin = BOTH if start.used and BOTH in candidates else WORDS
        chosen = _chosen(labels, {name: p for name, (p, _) in candidates.items()}, begin)
        return _explained(labels, candidates, chosen, begin, start)

    def transduced(self, labels: PseudoLabels) -> Transduced | None:
        """The outcome of transduction, once for the same photos and words: a review refines after each answer."""
        if len(labels.p) < MIN_PHOTOS:
            return None
        known = self._last
        if known and known[0].vectors is labels.vectors and known[0].log_odds is labels.log_odds:
            return known[1]
        outcome = transduce(labels)
        self._last = labels, outcome
        return outcome


def candidates_of(labels: PseudoLabels, refinement: AutoRefinement) -> Candidates:
    """What `refinement` chooses from; for benchmarks, which look at all of them."""
    return _candidates(labels, refinement.transduced(labels))


def _candidates(labels: PseudoLabels, outcome: Transduced | None) -> Candidates:
    candidates: dict[str, tuple[np.ndarray, float | None]] = {WORDS: (labels.p, None)}
    if outcome:
        candidates[GROUPS] = outcome.p, None
    if probe := fit_probe(labels):
        candidates[PROBE] = probe.p, probe.penalty
        if outcome and (on_groups := fit_probe(replace(labels, log_odds=outcome.log_odds))):
            candidates[BOTH] = _blend(outcome.p, on_groups.p, len(learnable(labels))), on_groups.penalty
    return candidates


def _blend(groups: np.ndarray, probe: np.ndarray, answers: int) -> np.ndarray:
    """Probabilities between those of the groups and those of a probe on them: the more answers, the nearer the latter.

    A few dozen answers, most of them on doubtful photos, say where the groups go wrong, and little on how many yes
    there are.
    """
    weight = answers / (answers + PRIOR_ANSWERS)
    return np.asarray(sigmoid((1 - weight) * logit(groups) + weight * logit(probe)))


def _chosen(labels: PseudoLabels, candidates: Mapping[str, np.ndarray], begin: str) -> str:
    """The candidate to use: where to begin, unless people's labels show others better by more than chance."""
    losses = {}
    for name, p in candidates.items():
        verdict, compared = compare(labels, candidates[begin], p)
        if name != begin and verdict == "used":
            losses[name] = compared.log_loss[1]
    return min(losses, key=lambda name: losses[name], default=begin)


def _without_people(start: Refined, labels: PseudoLabels) -> Refined:
    if not len(learnable(labels)):
        return start
    few = too_few(labels)
    sentence = f"{start.sentence} {few.sentence}" if start.figures else few.sentence
    return replace(start, sentence=sentence, figures={**start.figures, **few.figures})


def _explained(labels: PseudoLabels, candidates: Candidates, chosen: str, begin: str, start: Refined) -> Refined:
    compared = {name: compare(labels, labels.p, p, penalty)[1] for name, (p, penalty) in candidates.items()}
    others = [name for name in compared if name != WORDS]
    shown = chosen if chosen != WORDS else min(others, key=lambda name: compared[name].log_loss[1])
    p = candidates[chosen][0]
    table = {name: [one.accuracy[1], one.log_loss[1]] for name, one in compared.items()}
    moved = {
        "yes": [int((labels.p >= 0.5).sum()), int((p >= 0.5).sum())],
        "moved": int(((labels.p >= 0.5) != (p >= 0.5)).sum()),
    }
    figures = {**start.figures, **asdict(compared[shown]), **moved, "chosen": chosen, "candidates": table}
    return Refined(p, chosen != WORDS, _sentence(labels.source, compared[shown], chosen, begin, shown), figures)


def _sentence(source: str, compared: Comparison, chosen: str, begin: str, shown: str) -> str:
    before, after = compared.accuracy
    start = _SAYS[chosen].format(source=source.capitalize() if chosen == WORDS else source)
    if chosen == begin:
        start += " (nothing else is better by more than chance)"
    other = shown if chosen == WORDS else "it"
    return (
        f"{start}: on {compared.gold} labels from people that it was not fitted to, {other} is right on {after:.1%}, "
        f"{source} on {before:.1%}."
    )
