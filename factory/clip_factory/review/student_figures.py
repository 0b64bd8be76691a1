"""What people's answers to random test photos show of the run's student, and how many more are needed: for the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal, TypedDict

import numpy as np

from clip_factory.gate.power import UPPER_LIMITS, Requirements, answers_needed
from clip_factory.review.pool import Pool
from clip_factory.statistics import Confusion

State = Literal["no model", "open", "shown", "broken", "used up"]

CLAUSES = {
    "recall": "at least {} of the yes photos must be found",
    "precision": "at least {} of its answers yes must be right",
    "false_alarms": "at most {} of the no photos may be answered yes",
    "gold_accuracy": "at least {} of all its answers must be right",
}
"""The deciding clauses in words."""


class StudentFigures(TypedDict):
    """How far the run's student is from being shown right by people."""

    state: State
    """`open` while answers are needed and test photos are left, `used up` when none is left and too little is shown."""
    says: str
    """The same in a sentence or two, for people; commands stand between backticks."""
    confusion: dict[str, int] | None
    """Hits, misses, false_alarms and correct_rejections on the test photos that count; None without a student."""
    needed: int | None
    """About how many more answers the rule needs; None where it is broken or would never be met at these rates."""
    answered: int
    """Test photos that count: sampled at random, or labeled by the scenario's gold file, and answered yes or no."""
    waiting: int
    """Test photos that were sampled and wait for an answer."""
    tests: int
    """All test photos."""


def measure_student(pool: Pool, answers: Mapping[int, bool | None], unsure: int, tests: int) -> StudentFigures:
    """What the answers show.

    Near-duplicates count each, as in the gate: their answers are likely to be alike, so that where a test split is
    full of them the intervals are narrower than they should be.

    Args:
        pool: The run's photos.
        answers: By the rows of the test photos that count once they are answered: yes, no, or None without a clear
            answer.
        unsure: How many of those are without one because people cannot tell, or disagree.
        tests: How many test photos there are.
    """
    truth = {i: yes for i, yes in answers.items() if yes is not None}
    waiting, left = len(answers) - len(truth) - unsure, tests - len(truth) - unsure
    student = pool.student[list(truth)]
    confusion, needed = None, None
    if np.isnan(pool.student).all() or np.isnan(student).any():
        state: State = "no model"
        sentence = f"There is no model yet to hold answers against: {_command(pool)} makes one."
    else:
        confusion = Confusion.of(np.array([*truth.values()], bool), student >= pool.threshold)
        needed = answers_needed(confusion, pool.requirements, _against_teacher(pool))
        state, sentence = _describe(confusion, pool, needed, left, waiting)
    return {
        "state": state,
        "says": sentence,
        "confusion": None if confusion is None else asdict(confusion),
        "needed": needed,
        "answered": len(truth),
        "waiting": waiting,
        "tests": tests,
    }


def _against_teacher(pool: Pool) -> Confusion:
    """The student against the teacher's answers on the test photos: a guess at how the first answers will go."""
    if pool.teacher_answers is None:
        return Confusion(0, 0, 0, 0)
    test = (pool.splits == "test") & ~np.isnan(pool.student)
    return Confusion.of(pool.teacher_answers[test], pool.student[test] >= pool.threshold)


def _describe(confusion: Confusion, pool: Pool, needed: int | None, left: int, waiting: int) -> tuple[State, str]:
    broken = pool.requirements.failed_by(confusion)
    if broken:
        hint = f"Try another threshold, or leave this mode, answer the doubtful photos and run {_command(pool)}."
        return "broken", f"Broken: it {confusion.sentence}; {_required(pool.requirements, broken)}. {hint}"
    if needed == 0:
        first = f"answer the {waiting} that wait, then run" if waiting else "run"
        return "shown", f"Shown: it {confusion.sentence}. To have the gate say so, {first} {_command(pool)}."
    answered = confusion.yes + confusion.no
    sentence = f"Shown so far: it {confusion.sentence}" if answered else "Nothing is shown yet"
    if needed is None:
        required = _required(pool.requirements, _not_reached(confusion, pool.requirements))
        sentence += f"; at these rates more answers would not show enough: {required}."
    else:
        sentence += f"; about {needed:,} more answer{' is' if needed == 1 else 's are'} needed."
    if left and needed is not None and needed > left:
        sentence += f" Only {left:,} test photos are left: more photos are needed."
    if not left:
        return "used up", f"All {answered:,} test photos are answered: more photos are needed. {sentence}"
    return "open", sentence


def _required(requirements: Requirements, clauses: list[str]) -> str:
    bars = requirements.by_name
    return "by the rule " + ", ".join(CLAUSES[name].format(f"{100 * bars[name]:g} %") for name in clauses)


def _not_reached(confusion: Confusion, requirements: Requirements) -> list[str]:
    """The clauses whose bar the figures so far do not reach; where they only just do, all that are not passed."""
    not_passed = [name for name, state in requirements.clauses(confusion).items() if state != "passed"]
    bars = requirements.by_name
    reached = {
        name: (share.figure <= bars[name]) if name in UPPER_LIMITS else share.figure >= bars[name]
        for name, share in requirements.shares(confusion).items()
    }
    return [name for name in not_passed if not reached[name]] or not_passed


def _command(pool: Pool) -> str:
    return f"`factory run {shlex.quote(pool.run)}`"
