"""Two models compared by what their gate.json files say, for want of their photos: releases, a run and a champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from clip_factory.evaluation.better import Comparison, compare_counts
from clip_factory.evaluation.comparison_text import AGAINST_TEACHER, BY_PEOPLE
from clip_factory.evaluation.difference_intervals import Difference
from clip_factory.statistics import Confusion

OLDER = {"hits": "true_yes", "misses": "false_no", "false_alarms": "false_yes", "correct_rejections": "true_no"}
"""Keys of a confusion -> those that earlier versions wrote."""
LABELS = "labels.parquet"
MEASURE = "measure both by the same labels: factory compare A B --gold truth.csv --images DIR"
AGAINST = ("agreement", "balanced_agreement")
"""Clauses that are against a teacher, as are the figures below."""
TEACHERS = ("figures.against_teacher.", "figures.agreement_all.")


@dataclass(frozen=True)
class Counted:
    """The confusion that a gate.json holds."""

    counts: Confusion
    by_people: bool
    labels: str
    """Hex sha256 of the labels that it was counted by; empty where it is not said."""


@dataclass(frozen=True)
class Recorded:
    """Two models compared by their records."""

    line: str
    comparison: Comparison | None
    """None: what is recorded compares nothing, and `line` says why."""
    people: bool
    """Whether people's labels measured at least one of them: figures against a teacher are then of no interest."""


def read(gate: Any) -> Counted | None:
    """The confusion in a decoded gate.json, by people's labels if it has one; None where it has none.

    Nobody has checked the file: whatever is not as it should be counts as not there.
    """
    if not isinstance(gate, Mapping) or not isinstance(gate.get("figures"), Mapping):
        return None
    figures, inputs = gate["figures"], gate.get("inputs")
    labels = str(inputs.get(LABELS, "")) if isinstance(inputs, Mapping) else ""
    people = _confusion(_below(figures, "gold", "student"))
    mixed = figures.get("confusion")
    reference = mixed.get("reference") if isinstance(mixed, Mapping) else None
    if people is None and reference == "gold":
        people = _confusion(mixed)
    if people is not None:
        return Counted(people, True, labels)
    teacher = _confusion(_below(figures, "against_teacher"))
    if teacher is None and reference == "teacher":
        teacher = _confusion(mixed)
    return None if teacher is None else Counted(teacher, False, labels)


def compare_gates(first: Any, second: Any, names: tuple[str, str], *, same_teacher: bool) -> Recorded:
    """The verdict line of two models, by their decoded gate.json files.

    Args:
        first: Of the first.
        second: Of the second.
        names: What the line calls them.
        same_teacher: Whether one teacher labeled for both, with the same phrases.
    """
    one, two = read(first), read(second)
    people = [found is not None and found.by_people for found in (one, two)]
    if any(people) and not all(people):
        lacking = names[people.index(False)]
        why = f"{lacking} has no labels from people on record: these two are not compared; {MEASURE}"
        return Recorded(why, None, True)
    if one is None or two is None:
        return Recorded(f"their records hold no counts to compare; {MEASURE}", None, False)
    if not all(people) and not same_teacher:
        why = f"they cannot be compared: no labels from people, and different teachers or phrases; {MEASURE}"
        return Recorded(why, None, False)
    same = bool(one.labels) and one.labels == two.labels
    found = compare_counts(one.counts, two.counts, names, same_photos=same)
    whose = BY_PEOPLE if all(people) else AGAINST_TEACHER
    where = "" if same else ", each on the test photos of its day"
    return Recorded(f"{found.line}, {whose}{where}", found, all(people))


def is_against_teacher(what: str) -> bool:
    """Whether a fact of a diff, by its dotted name, is a figure against a teacher."""
    return what.startswith(TEACHERS) or any(what.startswith(f"gate.{name}.") for name in AGAINST)


def as_json(found: Comparison, line: str) -> dict[str, Any]:
    """A comparison as a tree that JSON can hold, with its line in full."""
    return {
        "first": found.names[0],
        "second": found.names[1],
        "verdict": found.verdict,
        "line": line,
        "note": found.note,
        "recall": _side(found.recall),
        "false_alarms": _side(found.false_alarms),
        "balanced_interval": found.balanced,
        "auc": _side(found.auc),
        "confusions": [asdict(one) for one in found.confusions],
    }


def _side(found: Difference | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _below(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _confusion(tree: Any) -> Confusion | None:
    if not isinstance(tree, Mapping):
        return None
    counts = [tree.get(field.name, tree.get(OLDER[field.name])) for field in fields(Confusion)]
    whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
    return Confusion(*whole) if len(whole) == len(counts) else None
