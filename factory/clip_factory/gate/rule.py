"""The rule: every clause, what it was held against, and what it concludes.

A clause passes when its 95 % interval clears the bar, fails when the interval lies wholly on the wrong side, and is
`unproven` between: the sample is too small to show it either way. What counts as right are people's labels, where
there are enough of them to show anything; else the answers of the teacher on ALL test photos, which can show that the
student follows its teacher and no more. docs/verdict.md says what each clause can show with how many photos.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from sklearn.metrics import roc_auc_score

from clip_factory.gate.power import LEAST_LABELS, Bars
from clip_factory.gate.verdict import Verdict
from clip_factory.scenario import Gate, Scenario
from clip_factory.statistics import Confusion, Share, calibration_error, proportion, share

Finding = Literal["pass", "fail", "unproven", "not measured"]
Reference = Literal["people", "teacher"]

CONFIDENT = 0.9
"""The teacher is confident where its probability of its own answer is at least this."""
BY = {"people": "by people's labels", "teacher": "by its teacher's word"}
UNCHECKED = "nobody has checked the teacher"


@dataclass(frozen=True)
class Clause:
    """One line of the rule, and what became of it."""

    name: str
    rule: str
    figure: float | None
    n: int
    interval: tuple[float, float] | None
    verdict: Finding
    says: str
    decides: bool = True
    """Whether the verdict hangs on it; a clause about the teacher does not where people have said enough."""


@dataclass(frozen=True)
class Evidence:
    """The test split: what the shipped file says, and what it is held against. Arrays are of length N."""

    student: np.ndarray
    """Probability of yes from the shipped file, in [0, 1]."""
    network: np.ndarray
    """The same from the trained network in torch."""
    teacher: np.ndarray
    """Probability of yes from the teacher."""
    gold: np.ndarray
    """1 yes, 0 no, -1 where no person has said."""
    threshold: float
    picked: np.ndarray | None = None
    """True where a person was asked because the photo looked doubtful; None where no one was."""
    teacher_threshold: float = 0.5
    """The teacher says yes from this probability on: as often as its probabilities promise, over all photos."""

    @property
    def golden(self) -> np.ndarray:
        """The labels from people that measure: a photo picked for its doubt is harder than photos are."""
        return (self.gold >= 0) if self.picked is None else (self.gold >= 0) & ~self.picked

    @property
    def says_yes(self) -> np.ndarray:
        """The student's answers."""
        return self.student >= self.threshold

    @property
    def teacher_yes(self) -> np.ndarray:
        """The teacher's answers."""
        return self.teacher >= self.teacher_threshold

    @property
    def truth(self) -> np.ndarray:
        """The best answers there are: gold where it exists, else the teacher's."""
        return np.where(self.gold >= 0, self.gold == 1, self.teacher_yes)

    @cached_property
    def by_people(self) -> Confusion:
        """The student's answers against the labels that measure."""
        return Confusion.of(self.gold[self.golden] == 1, self.says_yes[self.golden])

    @cached_property
    def by_teacher(self) -> Confusion:
        """The student's answers against the teacher's on all test photos."""
        return Confusion.of(self.teacher_yes, self.says_yes)

    def by(self, reference: Reference) -> Confusion:
        """The student's answers against one of the two."""
        return self.by_people if reference == "people" else self.by_teacher


def weigh(scenario: Scenario, evidence: Evidence, size: int) -> list[Clause]:
    """Every clause of the rule, held against the evidence; `size` is the file's, in bytes."""
    rule, against = scenario.gate, reference(scenario, evidence)
    return [
        *_found_and_false(scenario, evidence.by(against), BY[against]),
        _balanced_agreement(rule.balanced_agreement, evidence, decides=against == "teacher"),
        _agreement(rule.agreement, evidence, decides=against == "teacher"),
        _gold_accuracy(rule.gold_accuracy, evidence),
        _parity(rule.parity, evidence),
        _bytes(scenario.student.budget_kb, size),
        _both_classes(evidence),
    ]


def reference(scenario: Scenario, evidence: Evidence) -> Reference:
    """Whose word the student is held against: people's, where theirs is enough to show anything either way."""
    found = evidence.by_people
    least_yes, least_no = Bars.of(scenario).least
    if found.yes >= least_yes and found.no >= least_no:
        return "people"
    if found.yes + found.no < LEAST_LABELS:
        return "teacher"
    clauses = [*_found_and_false(scenario, found, BY["people"]), _gold_accuracy(scenario.gate.gold_accuracy, evidence)]
    return "people" if any(clause.verdict == "fail" for clause in clauses) else "teacher"


def conclude(scenario: Scenario, evidence: Evidence, clauses: list[Clause]) -> Verdict:
    """The verdict, and the sentence that every page and line opens with."""
    against = reference(scenario, evidence)
    deciding = [clause for clause in clauses if clause.decides]
    said = evidence.by(against).sentence
    broken = tuple(clause.says for clause in deciding if clause.verdict == "fail")
    if broken:
        return Verdict("refused", f"{_capital(said)}, {BY[against]}.", broken)
    short = tuple(c.says for c in deciding if c.verdict != "pass" and (c.name, against) != ("gold_accuracy", "teacher"))
    if against == "people":
        return Verdict("not proven" if short else "passed", f"{_capital(said)}, {BY[against]}.", short)
    opening = "Not shown to follow its teacher" if short else "Follows its teacher"
    checked = int(evidence.golden.sum())
    few = f"{checked} label{'' if checked == 1 else 's'} from people {'is' if checked == 1 else 'are'}"
    unchecked = f"{few} too few to check the teacher" if checked else UNCHECKED
    why = _gold_accuracy(scenario.gate.gold_accuracy, evidence).says
    return Verdict("not proven", f"{opening}, and {unchecked}: {said}, {BY[against]}.", (*short, why))


def summarize(clauses: list[Clause], verdict: Verdict) -> dict[str, Any]:
    """What the model file itself says of the gate; the size is left out, since saying it changes it."""
    said = [clause for clause in clauses if clause.name != "bytes"]
    return {
        "passed": verdict.passed,
        "verdict": verdict.state,
        "headline": verdict.headline,
        **{c.name: {"figure": c.figure, "n": c.n, "interval": c.interval, "verdict": c.verdict} for c in said},
    }


def figures(scenario: Scenario, evidence: Evidence) -> dict[str, Any]:
    """All that is measured beside the clauses: never hidden, never decisive."""
    answers, truth = evidence.says_yes, evidence.truth
    golden, known = evidence.golden, evidence.gold >= 0
    difference = np.abs(evidence.student - evidence.network)
    against, confusion = reference(scenario, evidence), Confusion.of(truth, answers)
    return {
        "test_images": len(answers),
        "threshold": evidence.threshold,
        "teacher_threshold": evidence.teacher_threshold,
        "outcome": {"against": against, **outcome(evidence.by(against))},
        "agreement_all": asdict(share(answers == evidence.teacher_yes)),
        "gold": {
            "student": _against(evidence.gold[golden] == 1, evidence.student[golden], evidence.threshold),
            "teacher": _against(evidence.gold[golden] == 1, evidence.teacher[golden], evidence.teacher_threshold),
        }
        if golden.any()
        else None,
        "against_teacher": {
            **_against(evidence.teacher_yes, evidence.student, evidence.threshold),
            "calibration_error": calibration_error(evidence.teacher_yes, evidence.student),
        },
        "calibration_error": calibration_error(truth, evidence.student),
        "confusion": {
            "reference": "gold" if known.all() else "gold and teacher" if known.any() else "teacher",
            "true_yes": confusion.hits,
            "false_yes": confusion.false_alarms,
            "true_no": confusion.correct_rejections,
            "false_no": confusion.misses,
        },
        "parity": {
            "mean": _mean(difference),
            "max": float(difference.max(initial=0)),
            "flips": int(((evidence.network >= evidence.threshold) != answers).sum()),
            "n": len(answers),
        },
    }


def outcome(found: Confusion) -> dict[str, Any]:
    """Counts, and their shares with intervals."""
    shares = {name: asdict(getattr(found, name)) for name in ("recall", "precision", "false_alarm_rate")}
    return {**asdict(found), **shares}


def _against(truth: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Any]:
    answers = probability >= threshold
    found = Confusion.of(truth, answers)
    both = bool(found.yes and found.no)
    return {
        **outcome(found),
        "accuracy": asdict(share(answers == truth)),
        "balanced_accuracy": asdict(found.balanced_accuracy) if both else None,
        "auc": float(roc_auc_score(truth, probability)) if both else None,
    }


def _found_and_false(scenario: Scenario, found: Confusion, by: str) -> list[Clause]:
    """What a user loses: yes photos that are missed, and yeses that are wrong."""
    rule = scenario.gate
    says = f"It finds {found.hits} of {found.yes} yes photos, {by}."
    recall = _share_clause("recall", rule.recall, found.recall, says if found.yes else f"No photo is a yes, {by}.")
    if Bars.of(scenario).false_alarms is not None:
        return [recall, _false_alarms(rule, found, by)]
    answered = found.hits + found.false_alarms
    says = f"Of its {answered} yeses {found.hits} are right, {by}." if answered else "It says yes to no photo."
    return [recall, _share_clause("precision", rule.precision, found.precision, says)]


def _false_alarms(rule: Gate, found: Confusion, by: str) -> Clause:
    rate, bar = found.false_alarm_rate, rule.false_alarms
    low, high = rate.interval
    verdict: Finding = "pass" if high <= bar else "fail" if low > bar else "unproven"
    asked = f"at most {bar:.0%}"
    says = f"It says yes to {found.false_alarms} of {found.no} no photos, {by}.{_held(verdict, asked)}"
    return Clause("false_alarms", f"<= {bar:g}", rate.figure if rate.n else None, rate.n, rate.interval, verdict, says)


def _share_clause(name: str, bar: float, found: Share, says: str, *, decides: bool = True) -> Clause:
    """A share that must be shown to be at least `bar`."""
    if not found.n:
        return Clause(name, f">= {bar:g}", None, 0, None, "not measured", says, decides)
    low, high = found.interval
    verdict: Finding = "pass" if low >= bar else "fail" if high < bar else "unproven"
    says += _held(verdict, f"at least {bar:.0%}")
    return Clause(name, f">= {bar:g}", found.figure, found.n, found.interval, verdict, says, decides)


def _held(verdict: Finding, asked: str) -> str:
    """What a figure falls short of, or what it is too few photos for."""
    if verdict == "fail":
        return f" Asked is {asked}."
    return f" Too few photos to show {asked}, as is asked." if verdict == "unproven" else ""


def _balanced_agreement(bar: float, evidence: Evidence, *, decides: bool) -> Clause:
    found = evidence.by_teacher
    both = found.yes and found.no
    shown = found.balanced_accuracy if both else proportion(0, 0)
    says = (
        f"On all {len(evidence.student)} test images, its yes and no photos weighed alike, it agrees with its teacher"
    )
    says = f"{says} on {shown.figure:.1%}." if both else "The teacher gives but one answer to all test images."
    return _share_clause("balanced_agreement", bar, shown, says, decides=decides)


def _agreement(bar: float, evidence: Evidence, *, decides: bool) -> Clause:
    sure = np.maximum(evidence.teacher, 1 - evidence.teacher) >= CONFIDENT
    found = share((evidence.says_yes == (evidence.teacher >= 0.5))[sure])
    says = f"Student and teacher agree on {found.figure:.1%} of the {found.n} test images that the teacher is sure of."
    if not found.n:
        says = f"The teacher is nowhere confident: no test image has {CONFIDENT:g} on either side."
    return _share_clause("agreement", bar, found, says, decides=decides)


def _gold_accuracy(bar: float, evidence: Evidence) -> Clause:
    golden = evidence.golden
    left_out = int((evidence.gold >= 0).sum() - golden.sum())
    found = share(evidence.says_yes[golden] == (evidence.gold[golden] == 1))
    says = f"The student is right on {found.figure:.1%} of the {found.n} test images that a person has labeled."
    if not found.n:
        says = "No test image has a label from a person: how often it is right is not known."
        if left_out:
            says = f"All {left_out} labels of test images were picked for their doubt: they measure nothing fairly."
    elif left_out:
        says += f" {left_out} picked for their doubt, which are harder than the rest, are left out."
    clause = _share_clause("gold_accuracy", bar, found, says)
    if clause.verdict == "fail" and found.n < LEAST_LABELS:
        return replace(clause, verdict="unproven", says=says + _held("unproven", f"at least {bar:.0%}"))
    return clause


def _parity(bar: float, evidence: Evidence) -> Clause:
    mean = _mean(np.abs(evidence.student - evidence.network))
    says = f"The shipped file's probabilities differ from the trained network's by {mean:.2g} in the mean."
    return Clause("parity", f"<= {bar:g}", mean, len(evidence.student), None, "pass" if mean <= bar else "fail", says)


def _bytes(budget_kb: float, size: int) -> Clause:
    budget = int(budget_kb * 1000)
    says = f"The file has {size:,} bytes; {budget:,} are allowed."
    return Clause("bytes", f"<= {budget}", size, 1, None, "pass" if size <= budget else "fail", says)


def _both_classes(evidence: Evidence) -> Clause:
    rarest = min(int(side.sum()) for yes in (evidence.truth, evidence.says_yes) for side in (yes, ~yes))
    says = "The test images hold both answers, and the student gives both."
    if not rarest:
        one_sided = "student answers" if 0 < evidence.truth.sum() < len(evidence.truth) else "test images hold"
        says = f"The {one_sided} only one of yes and no: nothing is shown of the other."
    return Clause("both_classes", ">= 1", rarest, len(evidence.student), None, "pass" if rarest else "fail", says)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
