"""The first screen: the verdict, what a user loses, why, and the command that comes next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.gate.power import Bars, answers_needed
from clip_factory.report import formatting as words
from clip_factory.report.plot_data import sweep
from clip_factory.report.run_data import Evidence
from clip_factory.statistics import Confusion, Share

OTHER_LINE = 0.9
"""The share that a suggested target aims at."""
CUT_CLAUSES = {"recall", "precision", "false_alarms", "gold_accuracy"}
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
class Opening:
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


def opening(evidence: Evidence) -> Opening:
    """What the first screen says of a run."""
    verdict = evidence.verdict
    word, tone, gloss = words.STATES[verdict.state]
    if verdict.passed and not evidence.today:
        tone, gloss = "unproven", words.EARLIER
    if verdict.state == "not proven" and any(map(_short, evidence.gate["clauses"])):
        gloss = words.SHORT
    reasons = verdict.reasons if verdict.headline != " ".join(verdict.reasons) else ()
    if evidence.judged.against == "teacher" and evidence.readiness.verdict != "ready":
        reasons = (*reasons, f"The labels that it learned from are doubtful. {evidence.readiness.sentence}")
    found = counted(evidence)
    return Opening(
        word, tone, gloss, verdict.headline, reasons, _counts(evidence, found), _by(evidence, found), steps(evidence)
    )


def counted(evidence: Evidence) -> Confusion:
    """The answers on the photos that the verdict counts, from gate.json where it has them."""
    said = evidence.gate["figures"].get("outcome")
    if said is None:
        return evidence.judged.at(evidence.threshold)
    return Confusion(said["hits"], said["misses"], said["false_alarms"], said["correct_rejections"])


def command(evidence: Evidence, verb: str, *options: str) -> str:
    """A command about this run; its folder relative to where the report is written, if it lies below."""
    folder = Path(os.path.relpath(evidence.folder)) if evidence.folder.is_absolute() else evidence.folder
    near = evidence.folder if ".." in folder.parts else folder
    return " ".join(["factory", verb, shlex.quote(near.as_posix()), *options])


def _counts(evidence: Evidence, found: Confusion) -> list[Count]:
    low, high = found.recall.interval
    missed = (1 - high, 1 - low)
    said = found.hits + found.false_alarms
    return [
        Count(_of(found.hits, found.yes), "yes photos found", _reach(found.recall), *_finding(evidence, "recall")),
        Count(words.number(found.misses), _missed(found.misses), words.interval(missed if found.yes else None)),
        Count(
            _of(found.false_alarms, found.no),
            "false alarms, of the no photos",
            _reach(found.false_alarm_rate),
            *_finding(evidence, "false_alarms"),
        ),
        Count(_of(found.hits, said), "of its yeses right", _reach(found.precision), *_finding(evidence, "precision")),
    ]


def _of(part: int, whole: int) -> str:
    return f"{words.number(part)} of {words.number(whole)}"


def _missed(misses: int) -> str:
    return "yes photo missed" if misses == 1 else "yes photos missed"


def _reach(found: Share) -> str:
    return words.interval(found.interval if found.n else None)


def _finding(evidence: Evidence, name: str) -> tuple[str, str]:
    """Tone and words of what the rule makes of a count."""
    clause: dict[str, Any] | None = evidence.pick(name)
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
    bar, figure = words.bound(clause), clause.get("figure")
    if bar is None or figure is None:
        return False
    return bool(figure <= bar if str(clause["rule"]).startswith("<=") else figure >= bar)


def _by(evidence: Evidence, found: Confusion) -> str:
    against, tests = evidence.judged.against, evidence.gate["figures"]["test_images"]
    counted_on = found.yes + found.no
    photos = f"all {words.number(tests)}" if counted_on == tests else _of(counted_on, tests)
    says = f"By {words.BY[against]}, on {photos} test photos, which training never saw."
    gold = evidence.gate["figures"].get("gold") or {}
    if against == "teacher":
        if not gold:
            return f"{says} Nobody has checked the teacher."
        few = words.number(gold["student"]["accuracy"]["n"])
        return f"{says} People have labeled {few} of them: too few to count."
    teacher = gold.get("teacher") or {}
    if against == "people" and "hits" in teacher:
        found_too = _of(teacher["hits"], teacher["hits"] + teacher["misses"])
        says += f" On the same photos its teacher finds {found_too}, with {_alarms(teacher['false_alarms'])}."
    return says


def _alarms(count: int) -> str:
    return words.plural(count, "false alarm")


def steps(evidence: Evidence) -> list[Step]:
    """What to do next, most useful first."""
    if not evidence.today:
        return [Step("To have it judged by today’s rule:", (command(evidence, "run"),))]
    state = evidence.verdict.state
    if state == "passed":
        publish = command(evidence, "publish", "--alias champion")
        return [Step("To take it into use:", (publish,))]
    return _prove(evidence) if state == "not proven" else _mend(evidence)


def _prove(evidence: Evidence) -> list[Step]:
    """Answers that would show it, or, where these would not, what would better it."""
    fair = _four((evidence.gate["figures"].get("gold") or {}).get("student"))
    by_teacher = _four(evidence.gate["figures"].get("against_teacher"))
    needed = answers_needed(Confusion(*fair), Bars.of(evidence.scenario), Confusion(*by_teacher))
    review = command(evidence, "review", "--prove")
    if needed is None:
        says = "At these rates more answers would not show enough. To see what other thresholds do, and to teach it:"
        return [Step(says, (command(evidence, "threshold"), command(evidence, "review"), command(evidence, "run")))]
    left = evidence.gate["figures"]["test_images"] - sum(fair)
    says = f"To prove it, answer about {words.number(needed)} more random test photos, then judge it anew."
    if needed > left:
        says += f" Only {words.number(left)} are left: more photos are needed."
    return [Step(says, (review, command(evidence, "run")))]


def _four(found: dict[str, Any] | None) -> list[int]:
    return [found[k] if found else 0 for k in ("hits", "misses", "false_alarms", "correct_rejections")]


def _mend(evidence: Evidence) -> list[Step]:
    """What could mend the clauses that are broken."""
    broken = {c["name"]: c for c in evidence.gate["clauses"] if c["verdict"] == "fail" and c.get("decides", True)}
    if broken and broken.keys() <= {"parity", "bytes"}:
        says = "Name another student.precision, backbone or budget_kb in the run’s scenario.yaml, then:"
        return [Step(says, (command(evidence, "run"),))]
    if "both_classes" in broken:
        says = "Look at the labels; add photos of the other answer, or say the phrases in other words. Then:"
        return [Step(says, (command(evidence, "review"), command(evidence, "run")))]
    teach = Step(
        "To teach it: correct the doubtful photos, then train again.",
        (command(evidence, "review"), command(evidence, "run")),
    )
    if broken.keys() & CUT_CLAUSES and elsewhere(evidence):
        says = "Another threshold may do; this takes seconds and trains nothing:"
        return [Step(says, (_move(evidence, broken),)), teach]
    if broken.keys() & CUT_CLAUSES:
        return [Step("No threshold would meet the rule on these photos.", ()), teach]
    return [teach]


def _move(evidence: Evidence, broken: dict[str, Any]) -> str:
    """The command that aims at the one clause that is broken; where it is none or several, the one that shows all."""
    rule, mendable = evidence.scenario.gate, broken.keys() & CUT_CLAUSES
    aims = {
        "recall": f"--recall {max(OTHER_LINE, rule.recall):g}",
        "precision": f"--precision {max(OTHER_LINE, rule.precision):g}",
        "false_alarms": f"--false-alarms {rule.false_alarms:g}",
    }
    return command(evidence, "threshold", *(aims[name] for name in mendable & aims.keys() if len(mendable) == 1))


def elsewhere(evidence: Evidence) -> bool:
    """Whether some threshold would reach the bars of the rule on the photos that the verdict counts."""
    judged, bars = evidence.judged, Bars.of(evidence.scenario)
    hits, alarms = sweep(judged.student, judged.truth, np.unique(judged.student))
    yes, photos = int(judged.truth.sum()), len(judged.truth)
    met = hits >= bars.recall * yes
    if bars.precision is not None:
        met &= hits >= bars.precision * (hits + alarms)
    if bars.false_alarms is not None:
        met &= alarms <= bars.false_alarms * (photos - yes)
    if judged.against == "people":
        met &= hits + photos - yes - alarms >= bars.gold_accuracy * photos
    return bool(yes and met.any())
