"""The rule: every clause, what it was held against, and what it concludes.

A clause passes when its 95 % interval clears the bar, fails when the interval lies wholly on the wrong side, and is
`unproven` between: the sample is too small to show it either way. What counts as right are people's labels, where
there are enough of them to show anything; else the answers of the teacher on ALL test photos, which can show that the
student follows its teacher and no more. docs/verdict.md says what each clause can show with how many photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clip_factory.gate.evidence import Evidence, Reference
from clip_factory.gate.power import MIN_LABELS, Requirements
from clip_factory.gate.verdict import Verdict
from clip_factory.scenario import Gate, Scenario
from clip_factory.statistics import Confusion, Share, proportion, share

ClauseResult = Literal["pass", "fail", "unproven", "not measured"]

CONFIDENT = 0.9
"""The teacher is confident where its probability of its own answer is at least this."""
REFERENCE_WORDS = {"people": "by people's labels", "teacher": "by its teacher's word"}
UNCHECKED = "nobody has checked the teacher"


@dataclass(frozen=True)
class Clause:
    """One line of the rule, and its result; gate.json has it by the same names."""

    name: str
    rule: str
    figure: float | None
    n: int
    interval: tuple[float, float] | None
    verdict: ClauseResult
    says: str
    decides: bool = True
    """Whether the verdict depends on it; a clause about the teacher does not where people's labels suffice."""


def evaluate_clauses(scenario: Scenario, evidence: Evidence, size: int) -> list[Clause]:
    """Every clause of the rule, held against the evidence; `size` is the file's, in bytes."""
    rule, reference = scenario.gate, choose_reference(scenario, evidence)
    return [
        *_recall_and_precision(scenario, evidence.against(reference), REFERENCE_WORDS[reference]),
        _balanced_agreement(rule.balanced_agreement, evidence, decides=reference == "teacher"),
        _agreement(rule.agreement, evidence, decides=reference == "teacher"),
        _gold_accuracy(rule.gold_accuracy, evidence),
        _parity("parity", rule.parity, "shipped", evidence.student, evidence.network),
        *_parity_of_others(rule.parity, evidence),
        _bytes(scenario.student.budget_kb, size),
        _both_classes(evidence),
    ]


def choose_reference(scenario: Scenario, evidence: Evidence) -> Reference:
    """Whose labels the student is held against: people's, where there are enough to show anything either way."""
    confusion = evidence.against_people
    min_yes, min_no = Requirements.of(scenario).min_labels
    if confusion.yes >= min_yes and confusion.no >= min_no:
        return "people"
    if confusion.yes + confusion.no < MIN_LABELS:
        return "teacher"
    clauses = _recall_and_precision(scenario, confusion, REFERENCE_WORDS["people"])
    clauses.append(_gold_accuracy(scenario.gate.gold_accuracy, evidence))
    return "people" if any(clause.verdict == "fail" for clause in clauses) else "teacher"


def decide(scenario: Scenario, evidence: Evidence, clauses: Sequence[Clause]) -> Verdict:
    """The verdict, and the sentence that every page and line opens with."""
    reference = choose_reference(scenario, evidence)
    deciding = [clause for clause in clauses if clause.decides]
    sentence, source = evidence.against(reference).sentence, REFERENCE_WORDS[reference]
    failed = tuple(clause.says for clause in deciding if clause.verdict == "fail")
    if failed:
        return Verdict("refused", f"{_capital(sentence)}, {source}.", failed)
    unproven = tuple(
        c.says for c in deciding if c.verdict != "pass" and (c.name, reference) != ("gold_accuracy", "teacher")
    )
    if reference == "people":
        return Verdict("not proven" if unproven else "passed", f"{_capital(sentence)}, {source}.", unproven)
    opening = "Not shown to follow its teacher" if unproven else "Follows its teacher"
    why = _gold_accuracy(scenario.gate.gold_accuracy, evidence).says
    return Verdict("not proven", f"{opening}, and {_unchecked(evidence)}: {sentence}, {source}.", (*unproven, why))


def _unchecked(evidence: Evidence) -> str:
    count = int(evidence.unbiased.sum())
    if not count:
        return UNCHECKED
    one = count == 1
    return f"{count} label{'' if one else 's'} from people {'is' if one else 'are'} too few to check the teacher"


def _recall_and_precision(scenario: Scenario, confusion: Confusion, source: str) -> list[Clause]:
    """What a user loses: yes photos that are missed, and yeses that are wrong."""
    rule = scenario.gate
    says = f"It finds {confusion.hits} of {confusion.yes} yes photos, {source}."
    says = says if confusion.yes else f"No photo is a yes, {source}."
    recall = _share_clause("recall", rule.recall, confusion.recall, says)
    if Requirements.of(scenario).false_alarms is not None:
        return [recall, _false_alarms(rule, confusion, source)]
    yeses = confusion.hits + confusion.false_alarms
    says = f"Of its {yeses} yeses {confusion.hits} are right, {source}." if yeses else "It says yes to no photo."
    return [recall, _share_clause("precision", rule.precision, confusion.precision, says)]


def _false_alarms(rule: Gate, confusion: Confusion, source: str) -> Clause:
    rate, maximum = confusion.false_alarm_rate, rule.false_alarms
    low, high = rate.interval
    result: ClauseResult = "pass" if high <= maximum else "fail" if low > maximum else "unproven"
    says = f"It says yes to {confusion.false_alarms} of {confusion.no} no photos, {source}."
    says += _shortfall(result, f"at most {maximum:.0%}")
    figure = rate.figure if rate.n else None
    return Clause("false_alarms", f"<= {maximum:g}", figure, rate.n, rate.interval, result, says)


def _share_clause(name: str, minimum: float, rate: Share, says: str, *, decides: bool = True) -> Clause:
    """A share that must be shown to be at least `minimum`."""
    if not rate.n:
        return Clause(name, f">= {minimum:g}", None, 0, None, "not measured", says, decides)
    low, high = rate.interval
    result: ClauseResult = "pass" if low >= minimum else "fail" if high < minimum else "unproven"
    says += _shortfall(result, f"at least {minimum:.0%}")
    return Clause(name, f">= {minimum:g}", rate.figure, rate.n, rate.interval, result, says, decides)


def _shortfall(result: ClauseResult, asked: str) -> str:
    """What a figure falls short of, or what it is too few photos for."""
    if result == "fail":
        return f" Asked is {asked}."
    return f" Too few photos to show {asked}, as is asked." if result == "unproven" else ""


def _balanced_agreement(minimum: float, evidence: Evidence, *, decides: bool) -> Clause:
    confusion = evidence.against_teacher
    both = confusion.yes and confusion.no
    rate = confusion.balanced_accuracy if both else proportion(0, 0)
    says = (
        f"On all {len(evidence.student)} test images, its yes and no photos weighed alike, it agrees with its teacher"
    )
    says = f"{says} on {rate.figure:.1%}." if both else "The teacher gives but one answer to all test images."
    return _share_clause("balanced_agreement", minimum, rate, says, decides=decides)


def _agreement(minimum: float, evidence: Evidence, *, decides: bool) -> Clause:
    confident = np.maximum(evidence.teacher, 1 - evidence.teacher) >= CONFIDENT
    rate = share((evidence.answers == (evidence.teacher >= 0.5))[confident])
    says = f"Student and teacher agree on {rate.figure:.1%} of the {rate.n} test images that the teacher is sure of."
    if not rate.n:
        says = f"The teacher is nowhere confident: no test image has {CONFIDENT:g} on either side."
    return _share_clause("agreement", minimum, rate, says, decides=decides)


def _gold_accuracy(minimum: float, evidence: Evidence) -> Clause:
    rows = evidence.unbiased
    left_out = int(evidence.labeled.sum() - rows.sum())
    rate = share(evidence.answers[rows] == (evidence.gold[rows] == 1))
    says = f"The student is right on {rate.figure:.1%} of the {rate.n} test images that a person has labeled."
    if not rate.n:
        says = "No test image has a label from a person: how often it is right is not known."
        if left_out:
            says = f"All {left_out} labels of test images were picked for their doubt: they measure nothing fairly."
    elif left_out:
        says += f" {left_out} picked for their doubt, which are harder than the rest, are left out."
    clause = _share_clause("gold_accuracy", minimum, rate, says)
    if clause.verdict == "fail" and rate.n < MIN_LABELS:
        return replace(clause, verdict="unproven", says=says + _shortfall("unproven", f"at least {minimum:.0%}"))
    return clause


def _parity(name: str, maximum: float, file: str, answers: np.ndarray, network: np.ndarray) -> Clause:
    mean = float(np.abs(answers - network).mean()) if len(answers) else 0.0
    says = f"The {file} file's probabilities differ from the trained network's by {mean:.2g} in the mean."
    return Clause(name, f"<= {maximum:g}", mean, len(answers), None, "pass" if mean <= maximum else "fail", says)


def _parity_of_others(maximum: float, evidence: Evidence) -> list[Clause]:
    """One clause for each exported file beside model.onnx."""
    return [
        _parity(f"parity_{name}", maximum, name, answers, evidence.network)
        for name, answers in evidence.other_formats.items()
    ]


def _bytes(budget_kb: float, size: int) -> Clause:
    budget = int(budget_kb * 1000)
    says = f"The file has {size:,} bytes; {budget:,} are allowed."
    return Clause("bytes", f"<= {budget}", size, 1, None, "pass" if size <= budget else "fail", says)


def _both_classes(evidence: Evidence) -> Clause:
    rarest = min(int(side.sum()) for yes in (evidence.truth, evidence.answers) for side in (yes, ~yes))
    says = "The test images hold both answers, and the student gives both."
    if not rarest:
        one_sided = "student answers" if 0 < evidence.truth.sum() < len(evidence.truth) else "test images hold"
        says = f"The {one_sided} only one of yes and no: nothing is shown of the other."
    return Clause("both_classes", ">= 1", rarest, len(evidence.student), None, "pass" if rarest else "fail", says)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
