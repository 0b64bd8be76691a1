"""What people's answers to random test photos show of the shipped student, and what is still needed: for the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal, TypedDict

import numpy as np

from clip_factory.gate.power import AT_MOST, Bars, answers_needed
from clip_factory.label_sources import probe
from clip_factory.review.pool import Photos
from clip_factory.statistics import Confusion, break_even

State = Literal["no model", "open", "shown", "broken", "used up"]

ASKED = {
    "recall": "at least {} of the yes photos must be found",
    "precision": "at least {} of its answers yes must be right",
    "false_alarms": "at most {} of the no photos may be answered yes",
    "gold_accuracy": "at least {} of all its answers must be right",
}
"""The deciding clauses in words."""


class Proof(TypedDict):
    """How far the shipped student is from being shown right by people."""

    state: State
    """`open` while answers are needed and test photos are left, `used up` when none is left and too little is shown."""
    says: str
    """The same in a sentence or two, for people; commands stand between backticks."""
    confusion: dict[str, int] | None
    """Hits, misses, false_alarms and correct_rejections on the test photos that count; None without a student."""
    needed: int | None
    """About how many more answers the rule needs; None where it breaks or would never be met at these rates."""
    answered: int
    """Test photos that count: drawn at random, or labeled by the scenario's gold file, and answered yes or no."""
    waiting: int
    """Test photos that were drawn and wait for an answer."""
    tests: int
    """All test photos."""


def weigh(photos: Photos, said: Mapping[int, bool | None], unsure: int, tests: int) -> Proof:
    """What the answers show.

    Near-duplicates count each, as in the gate: their answers are likely to be alike, so that where a test split is
    full of them the intervals are narrower than they should be.

    Args:
        photos: The run's.
        said: By the rows of the test photos that count once they are answered: yes, no, or None without a clear answer.
        unsure: How many of those are without one because people cannot tell, or disagree.
        tests: How many test photos there are.
    """
    truth = {i: yes for i, yes in said.items() if yes is not None}
    waiting, left = len(said) - len(truth) - unsure, tests - len(truth) - unsure
    student = photos.student[list(truth)]
    found, needed = None, None
    if np.isnan(photos.student).all() or np.isnan(student).any():
        state: State = "no model"
        says = f"There is no model yet to hold answers against: {_run(photos)} makes one."
    else:
        found = Confusion.of(np.array([*truth.values()], bool), student >= photos.threshold)
        needed = answers_needed(found, photos.bars, _by_teacher(photos))
        state, says = _told(found, photos, needed, left, waiting)
    return {
        "state": state,
        "says": says,
        "confusion": None if found is None else asdict(found),
        "needed": needed,
        "answered": len(truth),
        "waiting": waiting,
        "tests": tests,
    }


def _by_teacher(photos: Photos) -> Confusion:
    """The student against the teacher's words on the test photos: a guess at how the first answers will go."""
    test = (photos.splits == "test") & ~np.isnan(photos.student)
    p = probe.sigmoid(photos.logits)
    return Confusion.of((p >= break_even(p))[test], photos.student[test] >= photos.threshold)


def _told(found: Confusion, photos: Photos, needed: int | None, left: int, waiting: int) -> tuple[State, str]:
    broken = photos.bars.broken(found)
    if broken:
        mend = f"Try another threshold, or leave this mode, answer the doubtful photos and run {_run(photos)}."
        return "broken", f"Broken: it {found.sentence}; {_asked(photos.bars, broken)}. {mend}"
    if needed == 0:
        first = f"answer the {waiting} that wait, then run" if waiting else "run"
        return "shown", f"Shown: it {found.sentence}. To have the gate say so, {first} {_run(photos)}."
    says = f"Shown so far: it {found.sentence}" if found.yes + found.no else "Nothing is shown yet"
    if needed is None:
        says += (
            f"; at these rates more answers would not show enough: {_asked(photos.bars, _short(found, photos.bars))}."
        )
    else:
        says += f"; about {needed:,} more answer{' is' if needed == 1 else 's are'} needed."
    if left and needed is not None and needed > left:
        says += f" Only {left:,} test photos are left: more photos are needed."
    if not left:
        return "used up", f"All {found.yes + found.no:,} test photos are answered: more photos are needed. {says}"
    return "open", says


def _asked(bars: Bars, clauses: list[str]) -> str:
    return "by the rule " + ", ".join(ASKED[name].format(f"{100 * bars.by_name[name]:g} %") for name in clauses)


def _short(found: Confusion, bars: Bars) -> list[str]:
    """The clauses whose bar the figures so far do not reach; where they only just do, all that are not passed."""
    open_ones = [name for name, standing in bars.clauses(found).items() if standing != "passed"]
    reached = {
        name: (share.figure <= bars.by_name[name]) if name in AT_MOST else share.figure >= bars.by_name[name]
        for name, share in bars.shares(found).items()
    }
    return [name for name in open_ones if not reached[name]] or open_ones


def _run(photos: Photos) -> str:
    return f"`factory run {shlex.quote(photos.run)}`"
