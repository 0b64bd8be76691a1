"""The rule: every clause, what it was held against, and what it concludes.

A verdict is `pass`, `fail`, `unproven` (the sample is too small to show it either way), or `not measured`. The gate
refuses when a clause fails, or when nothing shows that the student is right. It never claims what a sample cannot show.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sklearn.metrics import roc_auc_score

from factory.scenario import Scenario
from factory.statistics import balanced_accuracy, calibration_error, least_sample, share

Verdict = Literal["pass", "fail", "unproven", "not measured"]

CONFIDENT = 0.9
"""The teacher is confident where its probability of its own answer is at least this."""


@dataclass(frozen=True)
class Clause:
    """One line of the rule, and what became of it."""

    name: str
    rule: str
    figure: float | None
    n: int
    interval: tuple[float, float] | None
    verdict: Verdict
    says: str


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

    @property
    def golden(self) -> np.ndarray:
        """The labels from people that measure: a photo picked for its doubt is harder than photos are."""
        return (self.gold >= 0) if self.picked is None else (self.gold >= 0) & ~self.picked

    @property
    def says_yes(self) -> np.ndarray:
        """The student's answers."""
        return self.student >= self.threshold

    @property
    def truth(self) -> np.ndarray:
        """The best answers there are: gold where it exists, else the teacher's."""
        return np.where(self.gold >= 0, self.gold == 1, self.teacher >= 0.5)


def weigh(scenario: Scenario, evidence: Evidence, size: int) -> list[Clause]:
    """Every clause of the rule, held against the evidence; `size` is the file's, in bytes."""
    rule = scenario.gate
    return [
        _agreement(rule.agreement, evidence),
        _gold_accuracy(rule.gold_accuracy, evidence),
        _parity(rule.parity, evidence),
        _bytes(scenario.student.budget_kb, size),
        _both_classes(evidence),
    ]


def is_passed(clauses: list[Clause]) -> bool:
    """No clause failed, and the student was shown right by the teacher or by a person."""
    verdicts = {clause.name: clause.verdict for clause in clauses}
    shown = "pass" in (verdicts["agreement"], verdicts["gold_accuracy"])
    return shown and "fail" not in verdicts.values()


def summarise(clauses: list[Clause]) -> dict[str, Any]:
    """What the model file itself says of the gate; the size is left out, since saying it changes it."""
    said = [clause for clause in clauses if clause.name != "bytes"]
    return {
        "passed": is_passed(clauses),
        **{c.name: {"figure": c.figure, "n": c.n, "interval": c.interval, "verdict": c.verdict} for c in said},
    }


def figures(evidence: Evidence) -> dict[str, Any]:
    """All that is measured beside the clauses: never hidden, never decisive."""
    answers, truth = evidence.says_yes, evidence.truth
    golden, known = evidence.golden, evidence.gold >= 0
    difference = np.abs(evidence.student - evidence.network)
    return {
        "test_images": len(answers),
        "threshold": evidence.threshold,
        "agreement_all": asdict(share(answers == (evidence.teacher >= 0.5))),
        "gold": {
            "student": _against(evidence.gold[golden] == 1, evidence.student[golden], evidence.threshold),
            "teacher": _against(evidence.gold[golden] == 1, evidence.teacher[golden], 0.5),
        }
        if golden.any()
        else None,
        "against_teacher": {
            **_against(evidence.teacher >= 0.5, evidence.student, evidence.threshold),
            "calibration_error": calibration_error(evidence.teacher >= 0.5, evidence.student),
        },
        "calibration_error": calibration_error(truth, evidence.student),
        "confusion": {
            "reference": "gold" if known.all() else "gold and teacher" if known.any() else "teacher",
            "true_yes": int((answers & truth).sum()),
            "false_yes": int((answers & ~truth).sum()),
            "true_no": int((~answers & ~truth).sum()),
            "false_no": int((~answers & truth).sum()),
        },
        "parity": {
            "mean": _mean(difference),
            "max": float(difference.max(initial=0)),
            "flips": int(((evidence.network >= evidence.threshold) != answers).sum()),
            "n": len(answers),
        },
    }


def _against(truth: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Any]:
    answers = probability >= threshold
    both = 0 < truth.sum() < len(truth)
    return {
        "accuracy": asdict(share(answers == truth)),
        "balanced_accuracy": asdict(balanced_accuracy(truth, answers)) if both else None,
        "auc": float(roc_auc_score(truth, probability)) if both else None,
    }


def _agreement(bar: float, evidence: Evidence) -> Clause:
    sure = np.maximum(evidence.teacher, 1 - evidence.teacher) >= CONFIDENT
    found = share((evidence.says_yes == (evidence.teacher >= 0.5))[sure])
    if not found.n:
        says = f"The teacher is nowhere confident: no test image has {CONFIDENT:g} on either side."
        return Clause("agreement", f">= {bar:g}", None, 0, None, "not measured", says)
    says = f"Student and teacher agree on {found.figure:.1%} of the {found.n} test images that the teacher is sure of."
    verdict: Verdict = "pass" if found.figure >= bar else "fail"
    return Clause("agreement", f">= {bar:g}", found.figure, found.n, found.interval, verdict, says)


def _gold_accuracy(bar: float, evidence: Evidence) -> Clause:
    golden = evidence.golden
    left_out = int((evidence.gold >= 0).sum() - golden.sum())
    found = share(evidence.says_yes[golden] == (evidence.gold[golden] == 1))
    needed = least_sample(bar)
    if not found.n:
        says = "No test image has a label from a person: accuracy is not known, only agreement with the teacher."
        if left_out:
            says = f"All {left_out} labels of test images were picked for their doubt: they measure nothing fairly."
        return Clause("gold_accuracy", f">= {bar:g}", None, 0, None, "not measured", says)
    says = f"The student is right on {found.figure:.1%} of the {found.n} test images that a person has labelled."
    if left_out:
        says += f" {left_out} picked for their doubt, which are harder than the rest, are left out."
    if found.n < needed and found.interval[1] >= bar:
        says += f" That is too few to show {bar:.0%}: label at least {needed} test images."
        return Clause("gold_accuracy", f">= {bar:g}", found.figure, found.n, found.interval, "unproven", says)
    verdict: Verdict = "pass" if found.figure >= bar else "fail"
    return Clause("gold_accuracy", f">= {bar:g}", found.figure, found.n, found.interval, verdict, says)


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


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
