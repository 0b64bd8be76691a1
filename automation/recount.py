"""Whether a run's gate.json agrees with its labels and predictions: the rule is applied anew.

Only parity cannot be counted again, since the trained network's answers are not kept: gate.json's figure is used.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_factory.gate import rule
from clip_factory.gate.evidence import Evidence, Reference
from clip_factory.gate.figures import compute_figures
from clip_factory.gate.verdict import Verdict
from clip_factory.gate.verdict import read as read_verdict
from clip_factory.report import formatting as words
from clip_factory.report.run_data import LabeledPhotos
from clip_factory.scenario import Scenario

CLOSE = 1e-6
"""How far a figure may lie from what is counted again: rounding."""
NO_PARITY = 1.0
"""Stands for a parity that is not said: as far off as probabilities can be."""


@dataclass(frozen=True)
class Recount:
    """The rule's results, and where gate.json differs."""

    verdict: Verdict
    against: Reference
    """Whose labels the student was compared with."""
    figures: dict[str, Any]
    """As in gate.json, without parity."""
    doubts: tuple[str, ...]
    """Where the clauses say something else; words of our own."""


def recount(
    scenario: Scenario, labels: LabeledPhotos, threshold: float, size: int, claims: Sequence[Mapping[str, Any]]
) -> Recount:
    """Apply the rule to a run's labels and predictions.

    Args:
        scenario: The run's.
        labels: Its labels with its predictions.
        threshold: What its model calls a yes, in [0, 1].
        size: Bytes of its model.
        claims: The clauses of its gate.json.
    """
    evidence = _evidence(labels, threshold, _parity(claims))
    counted = rule.evaluate_clauses(scenario, evidence, size)
    figures = json.loads(json.dumps(compute_figures(scenario, evidence)))
    del figures["parity"]
    verdict, against = rule.decide(scenario, evidence, counted), rule.choose_reference(scenario, evidence)
    return Recount(verdict, against, figures, tuple(_doubts(counted, claims)))


def contradictions(gate: Mapping[str, Any], verdict: Verdict) -> list[str]:
    """Whether a gate.json says another verdict than the one that was concluded anew, or says it in other words."""
    claim = read_verdict(gate)
    if claim.state != verdict.state or gate["passed"] is not verdict.passed:
        return [f"gate.json says {claim.state}, its clauses say {verdict.state}"]
    if claim.headline != verdict.headline:
        return ["gate.json says the verdict in other words than its figures do"]
    return []


def _evidence(labels: LabeledPhotos, threshold: float, parity: float) -> Evidence:
    """The test split; what stands in for the network's answers lies as far off as gate.json says."""
    test = labels.test
    student = labels.student[test].astype(np.float32)  # in the precision in which the gate compares
    return Evidence(
        student=student,
        network=student + np.float64(parity),
        teacher=labels.teacher[test].astype(np.float32),
        gold=labels.gold[test],
        threshold=threshold,
        picked=labels.picked[test],
        teacher_threshold=labels.teacher_threshold,
    )


def _parity(claims: Sequence[Mapping[str, Any]]) -> float:
    figure: Any = next((clause["figure"] for clause in claims if clause["name"] == "parity"), None)
    return float(figure) if words.known(figure) else NO_PARITY


def _doubts(counted: Sequence[rule.Clause], claims: Sequence[Mapping[str, Any]]) -> list[str]:
    by_name = {clause["name"]: clause for clause in claims}
    doubts = []
    for clause in counted:
        claim, title = by_name.get(clause.name, {}), words.CLAUSES[clause.name]
        if clause.name == "parity":
            if not words.known(claim.get("figure")) or claim.get("verdict") != clause.verdict:
                doubts.append(f"{title}: figure and verdict disagree")
        elif not all(_same(claim.get(key), getattr(clause, key)) for key in ("verdict", "figure", "decides")):
            doubts.append(f"{title}: counted again, the verdict is “{clause.verdict}”")
    more = Counter(clause["name"] for clause in claims) - Counter(clause.name for clause in counted)
    return doubts + [f"{words.CLAUSES[name]}: nothing in the scenario asks for it" for name in more]


def _same(one: Any, other: Any) -> bool:
    if words.known(one) and words.known(other):
        return math.isclose(one, other, abs_tol=CLOSE)
    return bool(one == other)
