"""The first screen: the verdict, what a user loses, why, and the command that comes next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.gate.power import Requirements, answers_needed
from clip_factory.report import formatting as words
from clip_factory.report.plot_data import sweep
from clip_factory.report.run_data import RunData
from clip_factory.statistics import Confusion, Share

SUGGESTED_SHARE = 0.9
"""The share that a suggested target aims at."""
THRESHOLD_CLAUSES = {"recall", "precision", "false_alarms", "gold_accuracy"}
"""Clauses that another threshold could mend."""


@dataclass(frozen=True)
class Count:
    """One thing that a user gains or loses."""

    figure: str
    of: str
    """What the figure counts."""
    interval: str
    """The share's, in per cent."""
    tone: str = ""
    """A clause's finding; empty where no clause asks for it."""
    finding: str = ""
    """The same in words."""


@dataclass(frozen=True)
class Step:
    """What to do next."""

    says: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """All that the first screen says."""

    word: str
    """The verdict's state."""
    tone: str
    """`pass`, `unproven` or `fail`."""
    gloss: str
    """What the state means."""
    headline: str
    """The verdict's sentence."""
    reasons: tuple[str, ...]
    counts: list[Count]
    by: str
    """Whose word the counts are held against, and on how many photos."""
    steps: list[Step]


def summarize(data: RunData) -> Summary:
    """What the first screen says of a run."""
    verdict = data.verdict
    word, tone, gloss = words.STATES[verdict.state]
    if verdict.passed and not data.current_rule:
        tone, gloss = "unproven", words.EARLIER
    if verdict.state == "not proven" and any(map(_short, data.gate["clauses"])):
        gloss = words.SHORT
    reasons = verdict.reasons if verdict.headline != " ".join(verdict.reasons) else ()
    if data.evaluated.against == "teacher" and data.readiness.verdict != "ready":
        reasons = (*reasons, f"The labels that it learned from are doubtful. {data.readiness.sentence}")
    counts = confusion(data)
    return Summary(word, tone, gloss, verdict.headline, reasons, _counts(data, counts), _by(data, counts), steps(data))


def confusion(data: RunData) -> Confusion:
    """The answers on the photos that the verdict counts, from gate.json where it has them."""
    outcome = data.gate["figures"].get("outcome")
    if outcome is None:
        return data.evaluated.at(data.threshold)
    return Confusion(outcome["hits"], outcome["misses"], outcome["false_alarms"], outcome["correct_rejections"])


def command(data: RunData, verb: str, *options: str) -> str:
    """A command about this run; its folder relative to where the report is written, if it lies below."""
    folder = Path(os.path.relpath(data.folder)) if data.folder.is_absolute() else data.folder
    near = data.folder if ".." in folder.parts else folder
    return " ".join(["factory", verb, shlex.quote(near.as_posix()), *options])


def _counts(data: RunData, counts: Confusion) -> list[Count]:
    low, high = counts.recall.interval
    missed = (1 - high, 1 - low)
    answered_yes = counts.hits + counts.false_alarms
    return [
        Count(_of(counts.hits, counts.yes), "yes photos found", _range(counts.recall), *_finding(data, "recall")),
        Count(words.number(counts.misses), _missed(counts.misses), words.interval(missed if counts.yes else None)),
        Count(
            _of(counts.false_alarms, counts.no),
            "false alarms, of the no photos",
            _range(counts.false_alarm_rate),
            *_finding(data, "false_alarms"),
        ),
        Count(
            _of(counts.hits, answered_yes),
            "of its yeses right",
            _range(counts.precision),
            *_finding(data, "precision"),
        ),
    ]


def _of(part: int, whole: int) -> str:
    return f"{words.number(part)} of {words.number(whole)}"


def _missed(misses: int) -> str:
    return "yes photo missed" if misses == 1 else "yes photos missed"


def _range(measured: Share) -> str:
    return words.interval(measured.interval if measured.n else None)


def _finding(data: RunData, name: str) -> tuple[str, str]:
    """Tone and words of what the rule makes of a count."""
    clause: dict[str, Any] | None = data.clause(name)
    if clause is None:
        return "", ""
    asked = f"{words.rule(clause)} asked"
    if clause["verdict"] == "pass":
        return "pass", f"{asked}, and shown"
    if clause["verdict"] == "fail":
        return "fail", f"{asked}: not met"
    if clause["verdict"] == "unproven":
        if not reached(clause):
            return "short", f"{asked}: not reached"
        return "unproven", f"{asked}: too few photos to show it"
    return "not-measured", f"{asked}: nothing to measure"


def _short(clause: dict[str, Any]) -> bool:
    """Whether a clause that decides is open, and its figure on the wrong side."""
    return bool(clause.get("decides", True) and clause["verdict"] == "unproven" and not reached(clause))


def reached(clause: dict[str, Any]) -> bool:
    """Whether a clause's figure, whatever its interval, is on the right side of its bar."""
    required, figure = words.bound(clause), clause.get("figure")
    if required is None or figure is None:
        return False
    return bool(figure <= required if str(clause["rule"]).startswith("<=") else figure >= required)


def _by(data: RunData, counts: Confusion) -> str:
    against, tests = data.evaluated.against, data.gate["figures"]["test_images"]
    counted_on = counts.yes + counts.no
    photos = f"all {words.number(tests)}" if counted_on == tests else _of(counted_on, tests)
    says = f"By {words.BY[against]}, on {photos} test photos, which training never saw."
    gold = data.gate["figures"].get("gold") or {}
    if against == "teacher":
        if not gold:
            return f"{says} Nobody has checked the teacher."
        few = words.number(gold["student"]["accuracy"]["n"])
        return f"{says} People have labeled {few} of them: too few to count."
    teacher = gold.get("teacher") or {}
    if against == "people" and "hits" in teacher:
        teacher_hits = _of(teacher["hits"], teacher["hits"] + teacher["misses"])
        says += f" On the same photos its teacher finds {teacher_hits}, with {_alarms(teacher['false_alarms'])}."
    return says


def _alarms(count: int) -> str:
    return words.plural(count, "false alarm")


def steps(data: RunData) -> list[Step]:
    """What to do next, most useful first."""
    if not data.current_rule:
        return [Step("To have it judged by today’s rule:", (command(data, "run"),))]
    state = data.verdict.state
    if state == "passed":
        publish = command(data, "publish", "--alias champion")
        return [Step("To take it into use:", (publish,))]
    return _steps_to_prove(data) if state == "not proven" else _steps_to_fix(data)


def _steps_to_prove(data: RunData) -> list[Step]:
    """Answers that would show it, or, where these would not, what would better it."""
    labeled_counts = _four_counts((data.gate["figures"].get("gold") or {}).get("student"))
    by_teacher = _four_counts(data.gate["figures"].get("against_teacher"))
    needed = answers_needed(Confusion(*labeled_counts), Requirements.of(data.scenario), Confusion(*by_teacher))
    review = command(data, "review", "--prove")
    if needed is None:
        says = "At these rates more answers would not show enough. To see what other thresholds do, and to teach it:"
        return [Step(says, (command(data, "threshold"), command(data, "review"), command(data, "run")))]
    left = data.gate["figures"]["test_images"] - sum(labeled_counts)
    says = f"To prove it, answer about {words.number(needed)} more random test photos, then judge it anew."
    if needed > left:
        says += f" Only {words.number(left)} are left: more photos are needed."
    return [Step(says, (review, command(data, "run")))]


def _four_counts(stored: dict[str, Any] | None) -> list[int]:
    return [stored[k] if stored else 0 for k in ("hits", "misses", "false_alarms", "correct_rejections")]


def _steps_to_fix(data: RunData) -> list[Step]:
    """What could mend the clauses that are broken."""
    broken = {c["name"]: c for c in data.gate["clauses"] if c["verdict"] == "fail" and c.get("decides", True)}
    if broken and broken.keys() <= {"parity", "bytes"}:
        says = "Name another student.precision, backbone or budget_kb in the run’s scenario.yaml, then:"
        return [Step(says, (command(data, "run"),))]
    if "both_classes" in broken:
        says = "Look at the labels; add photos of the other answer, or say the phrases in other words. Then:"
        return [Step(says, (command(data, "review"), command(data, "run")))]
    teach = Step(
        "To teach it: correct the doubtful photos, then train again.",
        (command(data, "review"), command(data, "run")),
    )
    if broken.keys() & THRESHOLD_CLAUSES and another_threshold_passes(data):
        says = "Another threshold may do; this takes seconds and trains nothing:"
        return [Step(says, (_move(data, broken),)), teach]
    if broken.keys() & THRESHOLD_CLAUSES:
        return [Step("No threshold would meet the rule on these photos.", ()), teach]
    return [teach]


def _move(data: RunData, broken: dict[str, Any]) -> str:
    """The command that aims at the one clause that is broken; where it is none or several, the one that shows all."""
    rule, mendable = data.scenario.gate, broken.keys() & THRESHOLD_CLAUSES
    aims = {
        "recall": f"--recall {max(SUGGESTED_SHARE, rule.recall):g}",
        "precision": f"--precision {max(SUGGESTED_SHARE, rule.precision):g}",
        "false_alarms": f"--false-alarms {rule.false_alarms:g}",
    }
    return command(data, "threshold", *(aims[name] for name in mendable & aims.keys() if len(mendable) == 1))


def another_threshold_passes(data: RunData) -> bool:
    """Whether some threshold would reach the bars of the rule on the photos that the verdict counts."""
    evaluated, requirements = data.evaluated, Requirements.of(data.scenario)
    hits, alarms = sweep(evaluated.student, evaluated.truth, np.unique(evaluated.student))
    yes, photos = int(evaluated.truth.sum()), len(evaluated.truth)
    met = hits >= requirements.recall * yes
    if requirements.precision is not None:
        met &= hits >= requirements.precision * (hits + alarms)
    if requirements.false_alarms is not None:
        met &= alarms <= requirements.false_alarms * (photos - yes)
    if evaluated.against == "people":
        met &= hits + photos - yes - alarms >= requirements.gold_accuracy * photos
    return bool(yes and met.any())
