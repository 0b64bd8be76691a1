"""Which of two classifiers is better, in one line, decided by the intervals of what a user loses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clip_factory.evaluation import comparison_text as comparison_text
from clip_factory.evaluation.difference_intervals import (
    Difference,
    Interval,
    area_difference,
    balanced_accuracy_interval,
    newcombe_independent,
    paired,
)
from clip_factory.statistics import Confusion

Verdict = Literal["first", "second", "equal", "trade-off"]


@dataclass(frozen=True)
class Comparison:
    """Two classifiers held against the same truth, each by its own answers."""

    names: tuple[str, str]
    verdict: Verdict
    """Which is better; `equal`: no difference outside chance, or none that can be told; `trade-off`: one finds more,
    the other raises fewer false alarms."""
    line: str
    """The verdict in one line, without a full stop: who finds how many more, at how many more false alarms."""
    confusions: tuple[Confusion, Confusion]
    recall: Difference | None
    """Of the yes photos, the share found; None where there is no yes photo."""
    false_alarms: Difference | None
    """Of the no photos, the share answered yes; None where there is no no photo."""
    balanced: Interval | None
    """95 % interval of the difference of balanced accuracy, the second's minus the first's."""
    auc: Difference | None = None
    """Area under the ROC curve; None where it is not known."""
    ranks_better: int | None = None
    """Index in `names` of the one that ranks better outside chance though its answers are not better; else None."""
    note: str = ""
    """That in a sentence, and what to do; empty where it is not so."""


def compare_answers(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    p_first: np.ndarray,
    p_second: np.ndarray,
    names: tuple[str, str] = ("A", "B"),
    groups: np.ndarray | None = None,
) -> Comparison:
    """Compare two classifiers on the same photos, each by its own answers.

    Each side is decided by itself, by the 95 % interval of the paired difference: what they find on the yes photos,
    what they falsely raise on the no photos. Of equal models about one pair in twenty is told apart on each side by
    chance, and so about one in ten in all.

    Args:
        truth: bool `(N,)`, whether the answer is yes, as people say.
        first: bool `(N,)`, the answers of the first, at its own threshold.
        second: bool `(N,)`, those of the second.
        p_first: `(N,)`, the first's probabilities of yes, in [0, 1].
        p_second: `(N,)`, the second's.
        names: What the line calls them.
        groups: int `(N,)`, equal for near-duplicates, which are not independent; None: no photo looks like another.

    Raises:
        ValueError: The arrays have different lengths.
    """
    truth, first, second = (np.asarray(values, bool) for values in (truth, first, second))
    p_first, p_second = (np.asarray(values, np.float64) for values in (p_first, p_second))
    if len({len(values) for values in (truth, first, second, p_first, p_second)}) != 1:
        raise ValueError("truth, answers and probabilities have different lengths")
    sides = [
        paired(first[side], second[side], None if groups is None else np.asarray(groups)[side])
        for side in (truth, ~truth)
    ]
    confusions = Confusion.of(truth, first), Confusion.of(truth, second)
    auc = area_difference(truth, p_first, p_second, groups)
    return _with_ranking(_comparison(names, confusions, sides[0], sides[1], same_photos=True), auc)


def compare_counts(
    first: Confusion, second: Confusion, names: tuple[str, str] = ("A", "B"), *, same_photos: bool = False
) -> Comparison:
    """Compare two classifiers of which counts alone are known, as of two releases.

    The intervals are those of independent samples (Newcombe 1998). On the same photos they are wider than need be:
    `compare_answers` is the better one wherever the answers are known.

    Args:
        first: The first's answers against the truth.
        second: The second's.
        names: What the line calls them.
        same_photos: Whether both were counted on the same photos by the same labels.
    """
    recall = _apart((first.hits, second.hits), (first.yes, second.yes))
    alarms = _apart((first.false_alarms, second.false_alarms), (first.no, second.no))
    return _comparison(names, (first, second), recall, alarms, same_photos=same_photos)


def _apart(hits: tuple[int, int], sizes: tuple[int, int]) -> Difference | None:
    if not all(sizes):
        return None
    one, two = (count / size for count, size in zip(hits, sizes, strict=True))
    return Difference(one, two, two - one, newcombe_independent(hits, sizes), sizes[1])


def _comparison(
    names: tuple[str, str],
    confusions: tuple[Confusion, Confusion],
    recall: Difference | None,
    alarms: Difference | None,
    *,
    same_photos: bool,
) -> Comparison:
    if recall is None or alarms is None:
        line = comparison_text.one_sided(confusions, any_yes=recall is not None)
        return Comparison(names, "equal", line, confusions, recall, alarms, None)
    verdict = _verdict(recall, alarms)
    sides = (recall, alarms)
    subject = _subject(verdict, recall, alarms)
    if subject == 0:
        sides = (recall.reversed(), alarms.reversed())
    describe = comparison_text.in_counts if same_photos else comparison_text.in_points
    line = describe(names, confusions, *sides, subject=subject, verdict=verdict)
    return Comparison(names, verdict, line, confusions, recall, alarms, balanced_accuracy_interval(recall, alarms))


def _verdict(recall: Difference, alarms: Difference) -> Verdict:
    """Better where one side is and the other is not outside chance, unless that costs more than it brings."""
    recall_sign, alarm_sign = recall.sign, -alarms.sign
    if not recall_sign and not alarm_sign:
        return "equal"
    balance = recall.figure - alarms.figure
    if recall_sign * alarm_sign < 0 or (recall_sign + alarm_sign) * balance <= 0:
        return "trade-off"
    return "second" if recall_sign + alarm_sign > 0 else "first"


def _subject(verdict: Verdict, recall: Difference, alarms: Difference) -> int:
    """Index of the one that the line is about: the better one, else the one that finds more, else the second."""
    if verdict in ("first", "second"):
        return int(verdict == "second")
    return int((recall.figure, alarms.figure) >= (0, 0) or verdict == "equal")


def _with_ranking(comparison: Comparison, auc: Difference | None) -> Comparison:
    """With the areas, and whether a better ranking is hidden by a threshold."""
    better = {1: 1, -1: 0}.get(auc.sign) if auc else None
    if auc is None or better is None or comparison.verdict == ("first", "second")[better]:
        return replace(comparison, auc=auc)
    return replace(comparison, auc=auc, ranks_better=better, note=comparison_text.hidden(comparison.names, better, auc))
