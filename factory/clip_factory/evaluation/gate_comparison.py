"""Two models compared by what their gate.json files say, for want of their photos: releases, a run and a champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from clip_factory.evaluation.comparison_text import AGAINST_TEACHER, BY_PEOPLE
from clip_factory.evaluation.difference_intervals import Difference
from clip_factory.evaluation.model_comparison import Comparison, compare_counts
from clip_factory.statistics import Confusion

OLDER = {"hits": "true_yes", "misses": "false_no", "false_alarms": "false_yes", "correct_rejections": "true_no"}
"""Keys of a confusion -> those that earlier versions wrote."""
LABELS = "labels.parquet"
MEASURE = "measure both by the same labels: factory compare A B --gold truth.csv --images DIR"
AGAINST = ("agreement", "balanced_agreement")
"""Clauses that are against a teacher, as are the figures below."""
TEACHERS = ("figures.against_teacher.", "figures.agreement_all.")


@dataclass(frozen=True)
class RecordedCounts:
    """The confusion that a gate.json holds."""

    counts: Confusion
    by_people: bool
    labels: str
    """Hex sha256 of the labels that it was counted by; empty where it is not said."""


@dataclass(frozen=True)
class GateComparison:
    """Two models compared by their records."""

    line: str
    comparison: Comparison | None
    """None: what is recorded compares nothing, and `line` says why."""
    by_people: bool
    """Whether people's labels measured at least one of them: figures against a teacher are then of no interest."""


def read(gate: Any) -> RecordedCounts | None:
    """The confusion in a decoded gate.json, by people's labels if it has one; None where it has none.

    Nobody has checked the file: whatever is not as it should be counts as not there.
    """
    if not isinstance(gate, Mapping) or not isinstance(gate.get("figures"), Mapping):
        return None
    figures, inputs = gate["figures"], gate.get("inputs")
    labels = str(inputs.get(LABELS, "")) if isinstance(inputs, Mapping) else ""
    by_people = _confusion(_nested(figures, "gold", "student"))
    mixed = figures.get("confusion")
    reference = mixed.get("reference") if isinstance(mixed, Mapping) else None
    if by_people is None and reference == "gold":
        by_people = _confusion(mixed)
    if by_people is not None:
        return RecordedCounts(by_people, True, labels)
    teacher = _confusion(_nested(figures, "against_teacher"))
    if teacher is None and reference == "teacher":
        teacher = _confusion(mixed)
    return None if teacher is None else RecordedCounts(teacher, False, labels)


def compare_gates(first: Any, second: Any, names: tuple[str, str], *, same_teacher: bool) -> GateComparison:
    """The verdict line of two models, by their decoded gate.json files.

    Args:
        first: Of the first.
        second: Of the second.
        names: What the line calls them.
        same_teacher: Whether one teacher labeled for both, with the same phrases.
    """
    one, two = read(first), read(second)
    by_people = [comparison is not None and comparison.by_people for comparison in (one, two)]
    if any(by_people) and not all(by_people):
        unlabeled = names[by_people.index(False)]
        why = f"{unlabeled} has no labels from people on record: these two are not compared; {MEASURE}"
        return GateComparison(why, None, True)
    if one is None or two is None:
        return GateComparison(f"their records hold no counts to compare; {MEASURE}", None, False)
    if not all(by_people) and not same_teacher:
        why = f"they cannot be compared: no labels from people, and different teachers or phrases; {MEASURE}"
        return GateComparison(why, None, False)
    same = bool(one.labels) and one.labels == two.labels
    comparison = compare_counts(one.counts, two.counts, names, same_photos=same)
    reference = BY_PEOPLE if all(by_people) else AGAINST_TEACHER
    where = "" if same else ", each on the test photos of its day"
    return GateComparison(f"{comparison.line}, {reference}{where}", comparison, all(by_people))


def is_about_teacher(what: str) -> bool:
    """Whether a fact of a diff, by its dotted name, is a figure against a teacher."""
    return what.startswith(TEACHERS) or any(what.startswith(f"gate.{name}.") for name in AGAINST)


def as_json(comparison: Comparison, line: str) -> dict[str, Any]:
    """A comparison as a tree that JSON can hold, with its line in full."""
    return {
        "first": comparison.names[0],
        "second": comparison.names[1],
        "verdict": comparison.verdict,
        "line": line,
        "note": comparison.note,
        "recall": _side(comparison.recall),
        "false_alarms": _side(comparison.false_alarms),
        "balanced_interval": comparison.balanced,
        "auc": _side(comparison.auc),
        "confusions": [asdict(one) for one in comparison.confusions],
    }


def _side(comparison: Difference | None) -> dict[str, Any] | None:
    return None if comparison is None else asdict(comparison)


def _nested(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _confusion(tree: Any) -> Confusion | None:
    if not isinstance(tree, Mapping):
        return None
    counts = [tree.get(field.name, tree.get(OLDER[field.name])) for field in fields(Confusion)]
    whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
    return Confusion(*whole) if len(whole) == len(counts) else None
